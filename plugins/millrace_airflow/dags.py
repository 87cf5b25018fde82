"""The DAGs of one source and of one pipeline. Only specs are read here, never data."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from millrace_airflow.operator import StageOperator, ValidateOperator
from millrace_airflow.pages import APPROVAL, INGEST_PAGE, SCORE_PAGE, TRAIN_PAGE
from millrace_airflow.timetable import PartitionTimetable
from millrace_airflow.wake import clean_asset, predictions_asset
from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec

SCORING_PARAMS = {
    "force": Param(False, type="boolean", description="Also what is published already."),
    "model": Param(
        None,
        type=["null", "string", "integer"],
        description="Which model scores: as-of (each day's champion), champion (the newest one) or a version's number.",
    ),
    "data": Param(
        None,
        type=["null", "string"],
        description="as-known (what was known at each day's cut) or corrected (today's revisions of it).",
    ),
    "allow_in_sample": Param(
        False,
        type="boolean",
        description="Also partitions that a model so chosen was trained on; they are marked.",
    ),
}


def ingest_dag(source: SourceSpec) -> DAG:
    """`<source>__ingest`: a delivery becomes a clean partition."""
    at = {"subject": source.name, "grain": source.grain, "timezone": source.timezone, "pool": "ingest"}
    with DAG(
        dag_id=f"{source.name}__ingest",
        schedule=_ingest_schedule(source),
        max_active_runs=4,
        tags=["millrace", "ingest", source.name],
        doc_md=INGEST_PAGE.format(source=source, example=_example(source.grain)),
        description=f"Deliveries of {source.name} become clean partitions",
        **_common(),
    ) as dag:
        ingest = StageOperator(verb="ingest", **at)
        validate = ValidateOperator(verb="validate", publishes=clean_asset(source.name), **at)
        ingest >> validate
    return dag


def score_dag(spec: PipelineSpec) -> DAG:
    """`<pipeline>__score`: a partition's predictions, published once."""
    at = {"subject": spec.pipeline, "grain": spec.grain, "timezone": spec.timezone, "pool": "score"}
    with DAG(
        dag_id=f"{spec.pipeline}__score",
        schedule=_schedule(spec, spec.grain),
        max_active_runs=4,
        tags=["millrace", "score", spec.pipeline],
        doc_md=SCORE_PAGE.format(spec=spec, example=_example(spec.grain)),
        description=f"Predictions of {spec.pipeline} for each {spec.grain}",
        **_common(force=True),
    ) as dag:
        pin = StageOperator(verb="pin", **at)
        featurize = StageOperator(verb="featurize", **at)
        score = StageOperator(verb="score", publishes=predictions_asset(spec.pipeline), **at)
        pin >> featurize >> score
    return dag


def train_dag(spec: PipelineSpec) -> DAG:
    """`<pipeline>__train`: a challenger, its evidence, the verdict."""
    at = {"subject": spec.pipeline, "grain": spec.train.every, "timezone": spec.timezone, "pool": "train"}
    asks = spec.gate.approve == "manual"
    with DAG(
        dag_id=f"{spec.pipeline}__train",
        schedule=_schedule(spec, spec.train.every),
        max_active_runs=1,
        tags=["millrace", "train", spec.pipeline],
        doc_md=(TRAIN_PAGE + APPROVAL * asks).format(spec=spec, example=_example(spec.train.every)),
        description=f"A challenger for {spec.pipeline}, each {spec.train.every}, and whether it becomes champion",
        **_common(ranges=False),
    ) as dag:
        pin = StageOperator(verb="pin_training", **at)
        featurize = StageOperator(verb="featurize", **at)
        # a training that may take a GPU waits for it in a pool of its own, where the UI shows it
        train = StageOperator(verb="train", **{**at, "pool": "gpu" if spec.train.gpus != 0 else "train"})
        evaluate = StageOperator(verb="evaluate", **at)
        promote = StageOperator(verb="promote", **at)
        pin >> featurize >> train >> evaluate
        if asks:
            from millrace_airflow.approve import ApproveOperator  # only here: the others need no more imports

            evaluate >> ApproveOperator(pipeline=spec.pipeline, pool="train") >> promote
        else:
            evaluate >> promote
    return dag


def _ingest_schedule(source: SourceSpec) -> PartitionTimetable | None:
    if source.grain == "none":
        return None
    return PartitionTimetable(
        grain=source.grain,
        timezone=source.timezone,
        offset=str(source.available),
        start=source.start,
        end=source.end,
    )


def _schedule(spec: PipelineSpec, grain: str) -> PartitionTimetable:
    """At as_of: of the partition, or of the first one in a training's interval."""
    return PartitionTimetable(
        grain=grain,
        timezone=spec.timezone,
        offset=str(spec.as_of),
        anchor=spec.grain,
        start=spec.start,
        end=spec.end,
    )


def _common(*, ranges: bool = True, force: bool = False) -> dict[str, Any]:
    params = {"partition": Param(None, type=["null", "string"], description="Key of one partition.")}
    if ranges:
        first = "First key of a range, instead of one partition."
        params["from"] = Param(None, type=["null", "string"], description=first)
        params["to"] = Param(None, type=["null", "string"], description="Last key of the range.")
    if force:
        params |= SCORING_PARAMS
    return {"catchup": False, "default_args": {"owner": "millrace"}, "params": params}


def _example(grain: str) -> str:
    return {"hour": "2013-11-03T01-0400", "day": "2013-11-05", "week": "2013-11-04", "month": "2013-11"}.get(
        grain, "all"
    )
