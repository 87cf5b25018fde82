"""A person's answer between evaluate and promote, where the pipeline's gate says so.

Airflow's human-in-the-loop operator: the task waits without a slot until somebody answers in the UI or
through REST. Nobody is asked about a challenger that would not be promoted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param

from millrace_airflow.priority import TodayFirst
from tasks.domain.partition import iso
from tasks.domain.results import ApproveResult, EvaluateResult

APPROVE, REFUSE = "Approve", "Refuse"
BODY = """{reason}

Promoted, version {challenger} would score `{pipeline}` instead of {champion}. The whole evidence, with calibration and
slices, lies in the lake at `evidence/{digest}.json`.
"""


class ApproveOperator(HITLOperator):
    """Asks a person whether the challenger becomes champion; the answer goes to `promote` either way.

    Not Airflow's ApprovalOperator: that one skips what comes after a refusal, and a refusal is to be recorded.

    Args:
        pipeline: its name.
    """

    ui_color = "#f7f0dd"

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        defaults = {
            "task_id": "approve",
            "subject": f"{pipeline}: promote the challenger?",
            "options": [APPROVE, REFUSE],
            "retries": 2,
            "retry_delay": timedelta(seconds=10),
            "weight_rule": TodayFirst(),
            "params": {"reason": Param("", type="string", description="Why; it is kept in the champion ledger.")},
        }
        super().__init__(**{**defaults, **kwargs})
        self.verb = "approve"
        self.pipeline = pipeline

    def execute(self, context: Context) -> None:
        evaluated = _evaluated(context)
        if not evaluated.decision.promoted:
            self.log.info("nobody is asked: %s", evaluated.decision.reason)
            return
        champion = evaluated.evidence.baseline_version
        self.subject = f"{self.pipeline} {evaluated.training}: promote the challenger?"
        self.body = BODY.format(
            reason=evaluated.decision.reason,
            challenger=_challenger(context),
            pipeline=self.pipeline,
            champion="no champion" if champion is None else f"version {champion}",
            digest=evaluated.digest,
        )
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The answer as `promote` takes it; called by Airflow when it is there."""
        answer = super().execute_complete(context, event)
        evaluated, user = _evaluated(context), answer["responded_by_user"]
        return ApproveResult(
            pipeline=self.pipeline,
            training=evaluated.training,
            evidence=evaluated.digest,
            approved=answer["chosen_options"] == [APPROVE],
            by=user["name"] or user["id"],
            at=iso(answer["responded_at"]),
            reason=str(answer["params_input"].get("reason", "")).strip()[:500],
        ).to_dict()


def _evaluated(context: Context) -> EvaluateResult:
    return EvaluateResult.from_dict(context["ti"].xcom_pull(task_ids="evaluate"))


def _challenger(context: Context) -> int:
    return context["ti"].xcom_pull(task_ids="train")["model"]["version"]
