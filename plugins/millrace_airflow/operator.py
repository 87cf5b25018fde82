"""One step as an Airflow task: a verb of `tasks`, run in a process of its own.

No Dask, CUDA, Arrow or delta-rs thread ever lives in Airflow's forked task process; what crosses the
boundary is JSON: the results of the tasks before this one go in, this step's result comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from millrace_airflow.docs_link import DataDocsLink, docs_in
from millrace_airflow.partition import partition_of
from millrace_airflow.priority import NICE, TodayFirst, is_past
from millrace_airflow.process import Outcome, StepProcess, tasks_command
from millrace_airflow.readiness import WAITING, patience_ends
from tasks.domain.partition import iso
from tasks.errors import MillraceError
from tasks.settings import load_settings

PUBLISHED = ("published",)
RETRY_DELAY = timedelta(seconds=10)


class StageOperator(BaseOperator):
    """Runs one verb for the run's partition or range.

    Args:
        verb: the step, also the task's name.
        subject: the source or pipeline.
        grain: of the DAG's partitions.
        timezone: of the DAG's partitions.
        publishes: the asset that a published partition is told of, or None.
    """

    ui_color = "#e8eef7"

    def __init__(
        self,
        *,
        verb: str,
        subject: str,
        grain: str,
        timezone: str,
        publishes: Asset | None = None,
        **kwargs: Any,
    ) -> None:
        defaults = {
            "task_id": verb,
            "retries": 2,
            "retry_delay": RETRY_DELAY,
            "weight_rule": TodayFirst(),
            "outlets": [publishes] if publishes is not None else [],
        }
        super().__init__(**{**defaults, **kwargs})
        self.verb = verb
        self.subject = subject
        self.grain = grain
        self.timezone = timezone
        self.publishes = publishes
        self.docs: str | None = None
        self._process: StepProcess | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        return self._step(context, until=None)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after waiting; called by Airflow when the trigger has fired."""
        if event["error"]:
            raise AirflowFailException(event["error"])
        if event["missing"]:
            raise AirflowFailException(_gave_up(self.subject, event["missing"], event["until"]))
        return self._step(context, until=event["until"])

    def on_kill(self) -> None:
        if self._process is not None:
            self._process.end()

    def _step(self, context: Context, *, until: str | None) -> dict[str, Any]:
        text = self._partition(context)
        result = self._ran(context, self._command(context, text), text, until=until)
        self._announce(context, result)
        self._skip_when_nothing_is_due(context, result)
        return result

    def _ran(self, context: Context, command: list[str], text: str, *, until: str | None = None) -> dict[str, Any]:
        """The result of a step's process."""
        nice = NICE if is_past(context["ti"].dag_id, context["dag_run"].run_id) else 0
        self._process = StepProcess(command, identity(context), self.log.info, nice=nice)
        self.log.info("%s %s %s%s", self.verb, self.subject, text, f", niced by {nice}" if nice else "")
        outcome = self._process.run(self._inputs(context))
        self.docs = docs_in(outcome.result)
        if outcome.code:
            self._fail(outcome, text, until, waits=self._waits(context))
        if not isinstance(outcome.result, dict):
            raise AirflowFailException(f"{self.verb} {self.subject} {text} ended without a result on its last line")
        return outcome.result

    def _waits(self, context: Context) -> bool:
        """A run with a model of somebody's choice makes up for the past: it waits for nothing."""
        return not (context["dag_run"].conf or {}).get("model")

    def _partition(self, context: Context) -> str:
        run = context["dag_run"]
        try:
            return partition_of(
                grain=self.grain, timezone=self.timezone, partition_key=run.partition_key, conf=run.conf
            )
        except MillraceError as error:
            raise AirflowFailException(str(error)) from None

    def _command(self, context: Context, text: str) -> list[str]:
        conf = context["dag_run"].conf or {}
        options = ["--force"] if conf.get("force") else []
        if self.verb == "pin":  # later steps score with what it pinned
            options += chosen(conf)
        return tasks_command("run", self.verb, self.subject, text, "--json", "--input", "-", *options)

    def _inputs(self, context: Context) -> dict[str, Any]:
        """Verb -> result of each step before this one in the DAG; a person's answer is one too."""
        before = [task for task in self.get_flat_relatives(upstream=True) if hasattr(task, "verb")]
        pulled = {task.verb: context["ti"].xcom_pull(task_ids=task.task_id) for task in before}
        return {verb: result for verb, result in pulled.items() if result is not None}

    def _fail(self, outcome: Outcome, text: str, until: str | None, *, waits: bool) -> None:
        step = f"{self.verb} {self.subject} {text}"
        error = outcome.result.get("error") if isinstance(outcome.result, dict) else None
        if error is None:
            if outcome.code == 2:
                raise AirflowFailException(f"{step}: the step refused its arguments; see its log above")
            how = f"signal {-outcome.code}" if outcome.code < 0 else f"status {outcome.code}"
            raise AirflowException(f"{step} ended with {how} and no word of why; see its log above")
        message = f"{error['message']} ({error['hint']})" if error.get("hint") else error["message"]
        if error["type"] == "SupersededError":
            raise AirflowSkipException(f"{step}: somebody else was first: {message}")
        if error["type"] == "NotReadyError" and self.verb in WAITING and waits:
            self._wait(text, until, message)
        if error.get("retry") and error["type"] != "NotReadyError":  # what is missing now is missing in a moment
            raise AirflowException(f"{error['type']}: {message}")
        raise AirflowFailException(f"{error['type']}: {message}")

    def _wait(self, text: str, until: str | None, message: str) -> None:
        from millrace_airflow.triggers import ReadyTrigger

        until = until or iso(patience_ends(load_settings(), self.verb, self.subject, text))
        self.log.info("%s; waiting until %s without a slot", message, until)
        trigger = ReadyTrigger(verb=self.verb, name=self.subject, partition=text, until=until)
        self.defer(trigger=trigger, method_name="resume")

    def _announce(self, context: Context, result: dict[str, Any]) -> None:
        if self.publishes is None:
            return
        keys = [one["key"] for one in result.get("partitions", ()) if one.get("status") in PUBLISHED]
        if keys:
            context["outlet_events"][self.publishes].add_partitions(keys)

    def _skip_when_nothing_is_due(self, context: Context, result: dict[str, Any]) -> None:
        """After a pin without work the rest of the run is skipped, not run for nothing."""
        if self.verb == "pin" and not result["partitions"]:
            why = "; ".join(f"{one['key']}: {one['reason']}" for one in result["skipped"][:5])
        elif self.verb == "pin_training" and result.get("done") is not None:
            why = f"this training was judged in ledger event {result['done']}"
        else:
            return
        context["ti"].xcom_push(key="return_value", value=result)
        raise AirflowSkipException(f"nothing to do: {why}")


class ValidateOperator(StageOperator):
    """The step that checks a contract: its task links to the Data Docs page."""

    operator_extra_links = (DataDocsLink(),)


def chosen(conf: Mapping[str, Any]) -> list[str]:
    """Which model scores a run's partitions, and of which data, as options of the command."""
    options = ["--model", str(conf["model"])] if conf.get("model") else []
    options += ["--data", str(conf["data"])] if conf.get("data") else []
    return options + (["--allow-in-sample"] if conf.get("allow_in_sample") else [])


def identity(context: Context) -> dict[str, str]:
    """Who runs: what the commits and ledger events of a step's process are signed with."""
    ti, run = context["ti"], context["dag_run"]
    mapped = f"[{ti.map_index}]" if ti.map_index is not None and ti.map_index >= 0 else ""
    return {
        "MILLRACE_RUN_ID": f"{ti.dag_id}/{ti.run_id}/{ti.task_id}{mapped}",
        "MILLRACE_ATTEMPT": str(ti.try_number),
        "MILLRACE_ACTOR": getattr(run, "triggering_user_name", None) or "airflow",
    }


def _gave_up(subject: str, missing: Sequence[str], until: str) -> str:
    more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
    return (
        f"{subject}: until {until} these did not arrive: {', '.join(missing[:10])}{more}"
        " (deliver and ingest them, or declare them under `missing` of their source; then clear this task)"
    )
