"""The order of waiting tasks, as Airflow's scheduler computes it."""

from __future__ import annotations

import re

from airflow.models.taskinstance import TaskInstance
from airflow.utils.types import DagRunType
from millrace_airflow.dags import score_dag
from millrace_airflow.priority import TodayFirst, is_past

from tasks.command.airflow import Chunk
from tests.support.specs import pipeline

CHUNK = Chunk("demo__score", "2013-01-01", "2013-01-31", 31)


def test_backfills_and_chunk_runs_are_of_the_past_and_nothing_else_is():
    past = [DagRunType.BACKFILL_JOB.generate_run_id(suffix="2013-01-01"), CHUNK.run_id()]
    today = [kind.generate_run_id(suffix="x") for kind in DagRunType if kind != DagRunType.BACKFILL_JOB]
    assert [is_past(run_id) for run_id in past] == [True, True]
    assert not any(is_past(run_id) for run_id in [*today, "wake__2013-01-01__abc", "by-hand", None])


def test_a_chunk_run_is_a_manual_run_for_airflow_whose_name_is_its_own():
    assert DagRunType.from_run_id(CHUNK.run_id()) == DagRunType.MANUAL
    assert re.fullmatch(r"[A-Za-z0-9_.~:+-]+", CHUNK.run_id()) and ".." not in CHUNK.run_id()  # Airflow refuses others
    assert CHUNK.run_id() != CHUNK.run_id()


def test_today_goes_before_the_past_and_what_was_begun_before_what_was_not():
    dag = score_dag(pipeline())

    def weight(step: str, run_id: str) -> int:
        task = dag.get_task(step)
        assert isinstance(task.weight_rule, TodayFirst)
        return TodayFirst().get_weight(TaskInstance(task=task, run_id=run_id, dag_version_id=None))

    past, today = CHUNK.run_id(), "scheduled__2013-01-01__x"
    order = [(step, run_id) for run_id in (past, today) for step in ("pin", "featurize", "score")]
    weights = [weight(step, run_id) for step, run_id in order]
    assert weights == sorted(set(weights))
