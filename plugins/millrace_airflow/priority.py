"""What is due today goes before what makes up for the past, wherever slots or processors are short.

Airflow orders waiting tasks by weight and, among equals, by the run's date, so that a backfill of last
year would go first. The weight is computed in the scheduler from a task and its run's id alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.task.priority_strategy import PriorityWeightStrategy

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

NICE = 10
"""How far a step of the past stands back from the processors."""
BACKFILL = "__backfill"
"""The end of the name of a pipeline's DAG of backfills."""
_TODAY = 1000


def is_past(dag_id: str, run_id: str | None) -> bool:
    """Whether a run is of `airflow backfill create`, or of a pipeline's own DAG of backfills."""
    return (run_id or "").startswith("backfill__") or dag_id.endswith(BACKFILL)


class TodayFirst(PriorityWeightStrategy):
    """Today before the past; in a DAG the later task first, so that what was begun is finished."""

    def get_weight(self, ti: TaskInstance) -> int:
        steps = len(ti.task.get_flat_relative_ids(upstream=True)) + 1
        return steps if is_past(ti.dag_id, ti.run_id) else _TODAY + steps
