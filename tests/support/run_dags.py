"""Run in a process of its own: runs DAGs with `dag.test()` and tells how each task ended.

Argument: JSON list of `{"dag_id": ..., "conf": {...}}`. Prints one JSON line: for each run the state
of its tasks, their results (XCom), and the asset events with their partition keys.
"""

from __future__ import annotations

import json
import sys

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
    answers = [_run(bag.dags[run["dag_id"]], run.get("conf")) for run in runs]
    print("\n" + json.dumps(answers))


def _run(dag, conf: dict | None) -> dict:
    run = dag.test(run_conf=conf, logical_date=None)
    with create_session() as session:
        where = {"dag_id": dag.dag_id, "run_id": run.run_id}
        xcoms = session.scalars(select(XComModel).filter_by(**where)).all()
        events = session.scalars(select(AssetEvent).filter_by(source_dag_id=dag.dag_id, source_run_id=run.run_id)).all()
        return {
            "run_id": run.run_id,
            "state": str(run.state),
            "tasks": {ti.task_id: str(ti.state) for ti in run.get_task_instances(session=session)},
            "results": {
                xcom.task_id: XComModel.deserialize_value(xcom) for xcom in xcoms if xcom.key == "return_value"
            },
            "links": {
                xcom.task_id: XComModel.deserialize_value(xcom) for xcom in xcoms if xcom.key == "_link_DataDocsLink"
            },
            "events": sorted((event.asset.name, event.partition_key) for event in events),
        }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
