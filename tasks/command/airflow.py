"""What the command asks of Airflow: backfills and trainings, and waiting for them with a progress bar."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from tasks.command.output import progress
from tasks.domain.ranges import range_text, source_keys
from tasks.domain.spec import PipelineSpec
from tasks.errors import MillraceError, ServiceError
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.services import AirflowApi, Run


def ingest(api: AirflowApi, title: str, spec: PipelineSpec, first: date, last: date) -> None:
    """A run of each source's DAG over local days, all at once.

    Raises:
        ServiceError: one failed.
    """
    keys = {name: source_keys(spec, use.source, first, last) for name, use in spec.sources.items()}
    texts = {f"{name}__ingest": range_text(found) for name, found in keys.items() if found}
    api.wait_for_dags(list(texts))
    runs = [api.trigger_run(dag_id, conf={"partition": text}) for dag_id, text in texts.items()]
    with progress(title) as show:
        for place, run in enumerate(runs):

            def look(now: Run, place: int = place) -> None:
                show(sum(one.finished for one in (*runs[:place], now)), len(runs))

            runs[place] = api.wait(run, poll=1.0, watch=look)
    _raise_failed(api, runs)


def backfill(
    api: AirflowApi, pipeline: str, first: date, last: date, *, stages: Sequence[str], options: Mapping[str, Any]
) -> tuple[Run, dict[str, Any]]:
    """A run of the pipeline's DAG of backfills, once it has ended well.

    Args:
        options: more of its conf.

    Returns:
        The run; `trained` (trainings and verdicts), `published` (how many partitions), `left` (the others, with why).

    Raises:
        ServiceError: it failed; names the chunk and the reason.
    """
    dag_id = f"{pipeline}__backfill"
    api.wait_for_dags([dag_id])
    conf = {"from": str(first), "to": str(last), "stages": ",".join(stages), **options}
    run = api.trigger_run(dag_id, conf=conf)
    with progress(f"partitions of {pipeline}") as show:

        def look(now: Run) -> None:
            tasks = api.task_instances(dag_id, now.run_id)
            done = total = 0
            for handed, worked in (("deliveries", "validate"), ("due", "score")):
                if any(one.task_id == handed and one.state == "success" for one in tasks):
                    chunks = api.result(dag_id, now.run_id, handed)
                    total += sum(chunk["partitions"] for chunk in chunks)
                    ended = [one for one in tasks if one.task_id == worked and one.state == "success"]
                    done += sum(chunks[one.map_index]["partitions"] for one in ended)
            show(done, total)

        run = api.wait(run, patience=7 * 86400, poll=1.0, watch=look)
    _raise_failed(api, [run])
    return run, _outcome(api, run, stages)


def _outcome(api: AirflowApi, run: Run, stages: Sequence[str]) -> dict[str, Any]:
    tasks = api.task_instances(run.dag_id, run.run_id)
    done = {one.task_id: one.state for one in tasks}
    trained = api.result(run.dag_id, run.run_id, "train") if done.get("train") == "success" else []
    chunks = [
        api.result(run.dag_id, run.run_id, "score", map_index=one.map_index)
        for one in tasks
        if one.task_id == "score" and one.state == "success"
    ]
    found = [one for chunk in chunks for one in chunk["partitions"]]
    lost = [f"{one['key']}: published by another run meanwhile" for one in found if one.get("status") == "superseded"]
    left = api.result(run.dag_id, run.run_id, "due", key="left") if "score" in stages else []
    published = sum(one.get("status") == "published" for one in found)
    return {"trained": trained, "published": published, "left": [*left, *lost]}


def train(api: AirflowApi, spec: PipelineSpec, training: str) -> dict:
    """One training through Airflow; the verdict that `promote` returned."""
    dag_id = f"{spec.pipeline}__train"
    api.wait_for_dags([dag_id])
    run = api.trigger_run(dag_id, conf={"partition": training})
    steps = ("pin_training", "featurize", "train", "evaluate", "promote")
    with progress(f"train {training}") as show:

        def look(now: Run) -> None:
            states = {task.task_id: task.state for task in api.task_instances(dag_id, now.run_id)}
            show(sum(states.get(step) in ("success", "skipped") for step in steps), len(steps))

        run = api.wait(run, patience=3600, poll=1.0, watch=look)
    _raise_failed(api, [run])
    states = {task.task_id: task.state for task in api.task_instances(dag_id, run.run_id)}
    last = "promote" if states.get("promote") == "success" else "pin_training"
    return api.result(dag_id, run.run_id, last)


def airflow_backfills(
    settings: Settings,
    api: AirflowApi,
    title: str,
    dags: Sequence[str],
    first: date,
    last: date,
    *,
    runs_at_a_time: int,
) -> list[Run]:
    """`airflow backfill create` on several DAGs at once, as a person would call it; waits for all."""
    api.wait_for_dags(list(dags))
    numbers = [create_backfill(settings, dag, first, last, runs_at_a_time) for dag in dags]
    total = len(dags) * ((last - first).days + 1)
    seen: dict[int, list[Run]] = {}
    with progress(title) as show:
        show(0, total)
        for number in numbers:

            def look(runs: list[Run], number: int = number) -> None:
                seen[number] = runs
                others = [run for other in numbers if other != number for run in _peek(api, seen, other)]
                show(sum(run.finished for run in [*runs, *others]), total)

            seen[number] = api.wait_for_backfill(number, watch=look, poll=3.0)
    ended = [run for number in numbers for run in seen[number]]
    _raise_failed(api, ended)
    return ended


def create_backfill(settings: Settings, dag_id: str, first: date, last: date, runs_at_a_time: int) -> int:
    """Run `airflow backfill create`; the backfill's number."""
    command = ["backfill", "create", "--dag-id", dag_id, "--from-date", str(first), "--to-date", str(last)]
    command += ["--max-active-runs", str(runs_at_a_time), "--reprocess-behavior", "failed"]
    from tasks.services import airflow_environment

    ran = subprocess.run(
        [sys.executable, "-P", "-m", "airflow", *command],
        env=airflow_environment(settings),
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise ServiceError(f"airflow {' '.join(command)} failed: {(ran.stderr or ran.stdout).strip()[-500:]}")
    from tasks.services import AirflowApi

    found = AirflowApi(settings).request("GET", f"/backfills?dag_id={dag_id}&limit=100")["backfills"]
    return max(int(one["id"]) for one in found)


def _peek(api: AirflowApi, seen: dict[int, list[Run]], number: int) -> list[Run]:
    known = seen.get(number)
    if known is None or not all(run.finished for run in known):
        seen[number] = known = api.backfill_runs(number)
    return known


def _raise_failed(api: AirflowApi, runs: Sequence[Run]) -> None:
    failed = [run for run in runs if run.state != "success"]
    if not failed:
        return
    first = failed[0]
    reason = failure(api, first)
    raise ServiceError(
        f"{len(failed)} of {len(runs)} runs failed; first {first.dag_id} {first.partition_key or dict(first.conf)}: {reason}",
        hint=f"{api.address}/dags/{first.dag_id}/runs/{first.run_id}",
    )


def failure(api: AirflowApi, run: Run) -> str:
    """Why a run failed: the last words of the first failed task's log."""
    for task in api.task_instances(run.dag_id, run.run_id):
        if task.state == "failed":
            try:
                text = api.log(task)
            except MillraceError as error:
                return f"{task.task_id} failed, and its log can't be read: {error}"
            lines = [line for line in text.splitlines() if re.search(r"millrace: |Error|Exception", line)]
            return f"{task.task_id}: {lines[-1][-400:] if lines else text[-300:]}"
    return run.state
