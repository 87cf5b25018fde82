"""`millrace__wake`: computes what is due and starts a run for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, BaseOperator, Context
from airflow.sdk.exceptions import AirflowException

from millrace_airflow.operator import identity
from millrace_airflow.pages import WAKE_PAGE
from millrace_airflow.process import StepProcess, tasks_command
from millrace_airflow.wake import WakeTimetable, clean_asset
from tasks.domain.source import SourceSpec

MINUTES = 5
_AT_ONCE = 200  # runs started by one wake; what is left is due at the next


class DueOperator(BaseOperator):
    """Asks `python -m tasks due` and hands on one trigger for each partition that is due."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        self._process = StepProcess(tasks_command("due", "--json"), identity(context), self.log.info)
        outcome = self._process.run()
        if outcome.code or not isinstance(outcome.result, list):
            error = outcome.result.get("error", {}) if isinstance(outcome.result, dict) else {}
            raise AirflowException(error.get("message") or f"`due` ended with status {outcome.code}; see its log above")
        self.log.info(
            "due: %s", ", ".join(f"{one['step']} {one['name']} {one['key']}" for one in outcome.result) or "nothing"
        )
        # in the order of their tokens, which change with the hour: no list of failing ones starves the rest
        return [_trigger(one) for one in sorted(outcome.result, key=lambda one: one["token"])[:_AT_ONCE]]

    def on_kill(self) -> None:
        self._process.end()


def wake_dag(live: Sequence[SourceSpec]) -> DAG:
    """The DAG; without a live source nothing becomes due, and it runs by hand only."""
    schedule = WakeTimetable(assets=[clean_asset(source.name) for source in live], minutes=MINUTES) if live else None
    with DAG(
        dag_id="millrace__wake",
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        default_args={"owner": "millrace"},
        tags=["millrace", "platform"],
        doc_md=WAKE_PAGE,
        description="Starts a run for each partition that is due",
    ) as dag:
        due = DueOperator(task_id="due", retries=1)
        start = TriggerDagRunOperator.partial(
            task_id="start",
            logical_date=None,
            skip_when_already_exists=True,
            openlineage_inject_parent_info=False,
        ).expand_kwargs(due.output)
        due >> start
    return dag


def _trigger(due: dict[str, Any]) -> dict[str, Any]:
    # The token names the state that makes it due: the same state starts one run, whoever sees it.
    return {
        "trigger_dag_id": f"{due['name']}__{due['step']}",
        "trigger_run_id": f"wake__{due['key']}__{due['token']}",
        "conf": {"partition": due["key"]},
    }
