"""`<pipeline>__backfill`: a range of days ingested, trained and scored in a few fat chunks, behind everything else.

What is due is asked of the tables when it is its turn, so that a second run does what the first one left, and a third
nothing.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from airflow.sdk import DAG, Context, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped

from millrace_airflow.dags import SCORING_PARAMS
from millrace_airflow.operator import RETRY_DELAY, StageOperator, chosen
from millrace_airflow.pages import BACKFILL_PAGE
from millrace_airflow.priority import BACKFILL
from millrace_airflow.process import tasks_command
from millrace_airflow.triggers import PauseTrigger
from millrace_airflow.wake import predictions_asset
from tasks.domain.ranges import STAGES, chunks_of, delivery_chunks, range_trainings
from tasks.domain.spec import PipelineSpec
from tasks.settings import load_pipeline, load_settings

_TASKS = {"ingest": ("ingest", "validate"), "train": ("train",), "score": ("due", "score")}
"""Stage -> the tasks that do it, after the one that hands on the deliveries."""


class BackfillOperator(StageOperator):
    """A step of a backfill. It waits for no input that is still to come: what is missing fails, or is left alone.

    Args:
        stage: of STAGES; where the run's conf leaves it out, the step is skipped.
        chunk: a `ranges.Chunk` that this one of many tasks works on.
    """

    template_fields = ("chunk",)

    def __init__(self, *, stage: str, chunk: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage = stage
        self.chunk = chunk

    def execute(self, context: Context) -> Any:
        if self.stage not in stages_of(context):
            raise AirflowSkipException(f"the backfill is of {', '.join(stages_of(context))}, not of {self.stage}")
        return super().execute(context)

    def _partition(self, context: Context) -> str:
        assert self.chunk is not None
        self.subject = self.chunk["name"]
        return self.chunk["partition"]

    def _command(self, context: Context, text: str) -> list[str]:
        options = self._options(context) if self.verb == "score" else []
        return tasks_command("run", self.verb, self.subject, text, "--json", "--input", "-", *options)

    def _options(self, context: Context) -> list[str]:
        conf = context["dag_run"].conf or {}
        return [*chosen(conf), *(["--force"] if conf.get("force") else [])]

    def _inputs(self, context: Context) -> dict[str, Any]:
        return {}  # the verb runs what it needs before it

    def _waits(self, context: Context) -> bool:
        return False

    def _spec(self) -> PipelineSpec:
        return load_pipeline(load_settings().config, self.subject)


class DeliveriesOperator(BackfillOperator):
    """Hands on the chunks of all sources' deliveries in the range; none where the run's conf leaves ingesting out.

    There it skips the tasks of every stage that is left out: each would start a process only to say so.
    """

    def execute(self, context: Context) -> Any:
        stages = stages_of(context)
        if self.stage in stages:
            return super().execute(context)
        context["ti"].xcom_push(key="return_value", value=[])
        raise DownstreamTasksSkipped(
            tasks=[task for stage, tasks in _TASKS.items() if stage not in stages for task in tasks]
        )

    def _step(self, context: Context, *, until: str | None) -> list[dict[str, Any]]:
        return [chunk.to_dict() for chunk in delivery_chunks(self._spec(), *days_of(context))]


class TrainingsOperator(BackfillOperator):
    """The trainings of the range one after the other, since each may make the champion that the next one meets.

    Between two of them the pool's slot is given back: what is due today goes first, and waits for one training at most.
    """

    def _step(self, context: Context, *, until: str | None) -> list[dict[str, Any]]:
        return self.go_on(context, [])

    def go_on(self, context: Context, event: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The training after those that the event tells of; called by Airflow when this task has a slot again."""
        judged = event
        found = range_trainings(self._spec(), *days_of(context), datetime.now(UTC))
        if not found:
            raise AirflowSkipException("no training of the range has data enough")
        done = {one["training"] for one in judged}
        left = [training for training in found if training.key not in done]
        if left:
            self.log.info("training %s, %d of %d", left[0].key, len(judged) + 1, len(found))
            result = self._ran(context, self._command(context, left[0].key), left[0].key)
            judged = [*judged, {"training": left[0].key, "verdict": result.get("verdict", "evaluated")}]
        if len(left) > 1:
            self.defer(trigger=PauseTrigger(done=judged), method_name="go_on")
        return judged


class DueOperator(BackfillOperator):
    """Hands on the chunks of what is due to be scored; `millrace plan` computes it, and its words stand in the log."""

    def _step(self, context: Context, *, until: str | None) -> list[dict[str, Any]]:
        first, last = days_of(context)
        days = "--from", str(first), "--to", str(last)
        command = tasks_command("plan", self.subject, *days, "--json", *self._options(context))
        planned = self._ran(context, command, f"{first}..{last}")["partitions"]
        left = [f"{one['key']}: {one['why']}" for one in planned if not one["due"]]
        context["ti"].xcom_push(key="left", value=left)
        due = [one["key"] for one in planned if one["due"]]
        self.log.info("%d of %d partitions are due", len(due), len(planned))
        if not due:
            raise AirflowSkipException("nothing is due")
        return [chunk.to_dict() for chunk in chunks_of(self.subject, due)]


def backfill_dag(spec: PipelineSpec) -> DAG:
    """The DAG of one pipeline; one run at a time."""
    at = {"subject": spec.pipeline, "grain": spec.grain, "timezone": spec.timezone}
    behind = {**at, "pool": "backfill"}
    # Airflow loads no priority strategy of a plugin for mapped tasks: their weight is said outright, under any of today's.
    # What they don't name, the scheduler takes from Airflow's defaults and not from ours.
    many = {**behind, "weight_rule": "absolute", "priority_weight": 1, "retries": 2, "retry_delay": RETRY_DELAY}
    many["map_index_template"] = "{{ task.chunk['partition'] }}"
    with DAG(
        dag_id=f"{spec.pipeline}{BACKFILL}",
        schedule=None,
        max_active_runs=1,
        catchup=False,
        default_args={"owner": "millrace"},
        params=_params(),
        tags=["millrace", "backfill", spec.pipeline],
        doc_md=BACKFILL_PAGE.format(spec=spec),
        description=f"A range of days of {spec.pipeline}, in chunks, behind everything else",
    ) as dag:
        deliveries = DeliveriesOperator(task_id="deliveries", verb="plan", stage="ingest", **behind)
        ingest = BackfillOperator.partial(task_id="ingest", verb="ingest", stage="ingest", **many)
        validate = BackfillOperator.partial(task_id="validate", verb="validate", stage="ingest", **many)
        train = TrainingsOperator(
            task_id="train",
            # what the gate would promote waits for a person, where the pipeline asks one
            verb="evaluate" if spec.gate.approve == "manual" else "promote",
            stage="train",
            trigger_rule="none_failed",
            **{**at, "pool": "gpu" if spec.train.gpus != 0 else "train"},
        )
        due = DueOperator(task_id="due", verb="plan", stage="score", trigger_rule="none_failed", **behind)
        publishes = predictions_asset(spec.pipeline)
        score = BackfillOperator.partial(
            task_id="score", verb="score", stage="score", publishes=publishes, outlets=[publishes], **many
        )
        chunks = deliveries.output
        ingest.expand(chunk=chunks) >> validate.expand(chunk=chunks) >> train >> due
        score.expand(chunk=due.output)
    return dag


def stages_of(context: Context) -> list[str]:
    """The stages that a run's conf names."""
    found = [part.strip() for part in str((context["dag_run"].conf or {}).get("stages") or "ingest,score").split(",")]
    for one in found:
        if one not in STAGES:
            raise AirflowFailException(f"stages: {one!r} is none of {', '.join(STAGES)}")
    return found


def days_of(context: Context) -> tuple[date, date]:
    """The first and last day that a run's conf names."""
    conf = context["dag_run"].conf or {}
    try:
        first, last = (date.fromisoformat(str(conf.get(name))) for name in ("from", "to"))
    except ValueError:
        raise AirflowFailException(
            'the run names no days; trigger it with a conf such as {"from": "2013-11-01", "to": "2013-11-30"}'
        ) from None
    if last < first:
        raise AirflowFailException(f"to {last} is before from {first}")
    return first, last


def _params() -> dict[str, Param]:
    stages = f"Of {', '.join(STAGES)}, separated by commas."
    return {
        "from": Param(None, type=["null", "string"], description="First day."),
        "to": Param(None, type=["null", "string"], description="Last day."),
        "stages": Param("ingest,score", type=["null", "string"], description=stages),
        **SCORING_PARAMS,
    }
