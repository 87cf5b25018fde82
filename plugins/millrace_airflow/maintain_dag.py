"""`millrace__maintain`: the tables' files few, and those gone that nobody reads any more, each night."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, BaseOperator, Context
from airflow.sdk.exceptions import AirflowException

from millrace_airflow.operator import identity
from millrace_airflow.pages import MAINTAIN_PAGE
from millrace_airflow.priority import NICE
from millrace_airflow.process import StepProcess, tasks_command

NIGHTLY = "17 3 * * *"


class MaintainOperator(BaseOperator):
    """Runs `python -m tasks maintain` behind everything else that wants the processors."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        command = tasks_command("maintain", "--json")
        self._process = StepProcess(command, identity(context), self.log.info, nice=NICE)
        outcome = self._process.run()
        result = outcome.result if isinstance(outcome.result, dict) else {}
        problems = [f"{one['table']}: {one['problem']}" for one in result.get("tables", ()) if one["problem"]]
        if outcome.code or "tables" not in result:
            told = "; ".join(problems) or result.get("error", {}).get("message")
            raise AirflowException(told or f"`maintain` ended with status {outcome.code}; see its log above")
        return [one for one in result["tables"] if one["compacted"] or one["deleted"] or one["left"]]

    def on_kill(self) -> None:
        self._process.end()


def maintain_dag() -> DAG:
    """The DAG; one run at a time."""
    with DAG(
        dag_id="millrace__maintain",
        schedule=NIGHTLY,
        catchup=False,
        max_active_runs=1,
        default_args={"owner": "millrace"},
        tags=["millrace", "platform"],
        doc_md=MAINTAIN_PAGE,
        description="Compacts tables and deletes data files that no retained version names",
    ) as dag:
        MaintainOperator(task_id="maintain", retries=1)
    return dag
