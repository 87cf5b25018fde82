"""What the command asks of Airflow: chunk runs, backfills, and waiting for them with a progress bar."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from tasks.command.output import progress
from tasks.domain.partition import Partition, overlapping
from tasks.domain.spec import PipelineSpec, SourceSpec
from tasks.errors import MillraceError, ServiceError
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.services import AirflowApi, Run

CHUNK = 124
"""Partitions of one chunk run."""


@dataclass(frozen=True)
class Chunk:
    """One run of one DAG over a range of partitions."""

    dag_id: str
    first: str
    last: str
    partitions: int

    def run_id(self) -> str:
        """A new run's name; its beginning tells Airflow's scheduler that the run makes up for the past."""
        return f"chunk__{self.first}_to_{self.last}__{uuid.uuid4().hex[:8]}"


def ingest_chunks(spec: PipelineSpec, first: date, last: date, size: int = CHUNK) -> list[Chunk]:
    """The chunk runs that ingest every source of a pipeline for local days."""
    found = []
    for name, use in spec.sources.items():
        source = use.source
        keys = source_keys(spec, source, first, last)
        found += _chunks(f"{name}__ingest", keys, size)
    return found


def score_chunks(spec: PipelineSpec, first: date, last: date, size: int = CHUNK) -> list[Chunk]:
    """The chunk runs that score a pipeline for local days."""
    return _chunks(f"{spec.pipeline}__score", [p.key for p in pipeline_partitions(spec, first, last)], size)


def pipeline_partitions(spec: PipelineSpec, first: date, last: date) -> list[Partition]:
    """The pipeline's partitions that start on the local days `first` to `last`."""
    begin = Partition.on("day", spec.timezone, max(first, spec.start)).start
    end = Partition.on("day", spec.timezone, min(last, spec.end or last)).end
    found = overlapping(spec.grain, spec.timezone, begin, end) if begin < end else []
    return [p for p in found if p.start >= begin]


def source_keys(spec: PipelineSpec, source: SourceSpec, first: date, last: date) -> list[str]:
    """The source's partitions that lie in the pipeline's local days `first` to `last`."""
    if source.grain == "none":
        return ["all"]
    begin = Partition.on("day", spec.timezone, first).start
    end = Partition.on("day", spec.timezone, last).end
    if source.start is not None:
        begin = max(begin, Partition.on(source.grain, source.timezone, source.start).start)
    if source.end is not None:
        end = min(end, Partition.on("day", source.timezone, source.end).end)
    return [p.key for p in overlapping(source.grain, source.timezone, begin, end)] if begin < end else []


def _chunks(dag_id: str, keys: list[str], size: int) -> list[Chunk]:
    parts = [keys[start : start + size] for start in range(0, len(keys), size)]
    return [Chunk(dag_id, part[0], part[-1], len(part)) for part in parts]


def run_chunks(
    api: AirflowApi, title: str, chunks: Sequence[Chunk], *, options: Mapping[str, Any] | None = None
) -> list[Run]:
    """Start the chunk runs and wait for them.

    Args:
        options: more of each run's conf.

    Raises:
        ServiceError: one failed; names its DAG, its range and the reason.
    """
    api.wait_for_dags(sorted({chunk.dag_id for chunk in chunks}))
    started = []
    for chunk in chunks:
        conf: dict[str, Any] = {"partition": chunk.first}
        if chunk.partitions > 1:
            conf = {"from": chunk.first, "to": chunk.last}
        conf |= dict(options or {})
        run = api.trigger_run(chunk.dag_id, conf=conf, run_id=chunk.run_id())
        started.append((run, chunk))
    ended: dict[str, Run] = {}
    shares: dict[str, float] = {}
    total = sum(chunk.partitions for chunk in chunks)
    with progress(title) as show:
        show(0, total)
        while len(ended) < len(started):
            time.sleep(1)
            for run, chunk in started:
                if run.run_id in ended:
                    continue
                now = api.run(run.dag_id, run.run_id)
                tasks = api.task_instances(run.dag_id, run.run_id)
                done = sum(task.state in ("success", "skipped") for task in tasks) / max(1, len(tasks))
                shares[run.run_id] = chunk.partitions * (1.0 if now.finished else done)
                if now.finished:
                    ended[run.run_id] = now
            show(round(sum(shares.values())), total)
    _raise_failed(api, list(ended.values()))
    return [ended[run.run_id] for run, _ in started]


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


def scored(api: AirflowApi, run: Run, pinned: Sequence[str]) -> tuple[int, list[str]]:
    """How many of the pinned partitions a score run published, and which it did not, with the reason."""
    states = {task.task_id: task.state for task in api.task_instances(run.dag_id, run.run_id)}
    if not pinned:
        return 0, []
    if states.get("score") != "success":
        return 0, [f"{key}: not published, see run {run.run_id}" for key in pinned]
    outcomes = {one["key"]: one["status"] for one in api.result(run.dag_id, run.run_id, "score")["partitions"]}
    lost = [f"{key}: published by another run meanwhile" for key in pinned if outcomes.get(key) == "superseded"]
    return sum(status == "published" for status in outcomes.values()), lost


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
