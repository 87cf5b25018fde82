"""Run in a process of its own: runs DAGs with `dag.test()` and tells how each task ended.

Argument: JSON list of `{"dag_id": ..., "conf": {...}}`, with `"answer"` where a person is asked: what the
administrator sends to Airflow's REST route. Prints one JSON line: for each run the state of its tasks, their
results (XCom), the asset events with their partition keys, and what the person was asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.asset import AssetEvent
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from tasks.settings import REPOSITORY


def main(runs: list[dict]) -> None:
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(str(REPOSITORY / "dags"), bundle_path=REPOSITORY / "dags", bundle_name="dags-folder")
    sync_bag_to_db(bag, "dags-folder", None)
    answers = [_run(bag.dags[run["dag_id"]], run.get("conf"), run.get("answer")) for run in runs]
    print("\n" + json.dumps(answers))


def _run(dag, conf: dict | None, answer: dict | None) -> dict:
    with ThreadPoolExecutor(1) as person, _ended() as ended:
        asked = person.submit(_answer, _client(), dag.dag_id, answer, ended) if answer else None
        run = dag.test(run_conf=conf, logical_date=None)
    with create_session() as session:
        where = {"dag_id": dag.dag_id, "run_id": run.run_id}
        xcoms = session.scalars(select(XComModel).filter_by(**where)).all()
        events = session.scalars(select(AssetEvent).filter_by(source_dag_id=dag.dag_id, source_run_id=run.run_id)).all()
        return {
            "run_id": run.run_id,
            "state": str(run.state),
            "tasks": {_name(ti): str(ti.state) for ti in run.get_task_instances(session=session)},
            "results": {_name(xcom): XComModel.deserialize_value(xcom) for xcom in xcoms if xcom.key == "return_value"},
            "links": {
                xcom.task_id: XComModel.deserialize_value(xcom) for xcom in xcoms if xcom.key == "_link_DataDocsLink"
            },
            "asked": asked.result() if asked else None,
            "events": sorted((event.asset.name, event.partition_key) for event in events),
        }


def _name(one) -> str:
    """The task's name, of one of many with its place among them."""
    return one.task_id if one.map_index < 0 else f"{one.task_id}[{one.map_index}]"


@contextmanager
def _ended() -> Iterator[Event]:
    """An event that is set at the end, however that comes: nobody then waits to be asked any more."""
    event = Event()
    try:
        yield event
    finally:
        event.set()


def _client():
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    client = TestClient(create_app(apps="core"))
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ada", role="admin"))
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def _answer(client, dag_id: str, answer: dict, ended: Event) -> dict | None:
    """Answer the first task that waits for a person; what was asked, and the status of the answer."""
    while not ended.wait(0.5):
        query = f"/api/v2/dags/{dag_id}/dagRuns/~/hitlDetails?response_received=false"
        for detail in client.get(query).json()["hitl_details"]:
            task = detail["task_instance"]
            path = f"/api/v2/dags/{dag_id}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/-1/hitlDetails"
            said = client.patch(path, json=answer)
            return {"status": said.status_code, "subject": detail["subject"], "body": detail["body"]}
    return None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
