"""The order of waiting tasks, as Airflow's scheduler computes it."""

from __future__ import annotations

from airflow.models.taskinstance import TaskInstance
from airflow.utils.types import DagRunType
from millrace_airflow.backfill_dag import backfill_dag
from millrace_airflow.dags import score_dag
from millrace_airflow.priority import TodayFirst, is_past

from tests.support.specs import pipeline


def test_runs_of_airflows_backfills_and_of_the_backfill_dag_are_of_the_past_and_nothing_else_is():
    every = [kind.generate_run_id(suffix="x") for kind in DagRunType]
    past = [run_id for run_id in every if is_past("demo__score", run_id)]
    assert past == [DagRunType.BACKFILL_JOB.generate_run_id(suffix="x")]
    assert all(is_past("demo__backfill", run_id) for run_id in [*every, None])
    assert not any(is_past("demo__score", run_id) for run_id in ("wake__2013-01-01__abc", "by-hand", None))


def test_today_goes_before_the_past_and_what_was_begun_before_what_was_not():
    dag = score_dag(pipeline())

    def weight(step: str, run_id: str) -> int:
        task = dag.get_task(step)
        assert isinstance(task.weight_rule, TodayFirst)
        return TodayFirst().get_weight(TaskInstance(task=task, run_id=run_id, dag_version_id=None))

    past, today = "backfill__2013-01-01", "scheduled__2013-01-01__x"
    order = [(step, run_id) for run_id in (past, today) for step in ("pin", "featurize", "score")]
    weights = [weight(step, run_id) for step, run_id in order]
    assert weights == sorted(set(weights))


def test_all_of_a_backfill_goes_behind_what_is_due_today():
    def weight(dag, step: str) -> int:
        task = dag.get_task(step)
        if task.is_mapped:  # Airflow loads no strategy of a plugin for these
            assert task.weight_rule == "absolute"
            return task.priority_weight
        assert isinstance(task.weight_rule, TodayFirst)
        return TodayFirst().get_weight(TaskInstance(task=task, run_id="manual__x", dag_version_id=None))

    behind, today = backfill_dag(pipeline()), score_dag(pipeline())
    assert max(weight(behind, step) for step in behind.task_ids) < min(weight(today, step) for step in today.task_ids)
