"""What a challenger must show before it becomes champion: `gate` of a pipeline's file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.domain.frozen import Frozen

MOST_GUARDS = 3
"""Guards of a gate: what all of them found crosses a task boundary, which is small."""


class GuardSpec(Frozen):
    """A column by whose values the holdout is cut into slices, none of which may get much worse."""

    slice: str
    """A column of the driving source, of type string, int, bool or date; each of its values is a slice."""
    max_drop: float = Field(ge=0)
    """The loss of the gate's metric that is still borne; a slice fails when the whole interval of its loss lies beyond."""
    min_rows: int = Field(200, ge=1)
    """Slices with fewer rows are listed and not judged."""


class LimitSpec(Frozen):
    """What scoring with the challenger may cost at most; what is left out is not limited."""

    ms_per_1000_rows: float | None = Field(None, gt=0)
    """Milliseconds of encoding and predicting 1,000 rows of the holdout, on the machine that evaluates."""
    model_mb: float | None = Field(None, gt=0)
    """The model's size, in megabytes of 1,000,000 bytes."""
    memory_mb: float | None = Field(None, gt=0)
    """By how much the process grows at most while it predicts the holdout, in megabytes."""


class GateSpec(Frozen):
    """What a challenger must show."""

    metric: Literal["auc", "logloss", "rmse", "mae", "mlogloss", "accuracy"]
    """The metric compared on the holdout."""
    min_gain: float = Field(0.0, ge=0)
    """The gain that must be exceeded."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Two-sided confidence of the interval of the gain, and of each slice's."""
    inconclusive: Literal["keep", "promote"] = "keep"
    """What an undecided comparison does."""
    guards: tuple[GuardSpec, ...] = Field((), max_length=MOST_GUARDS)
    """Slices that must not get much worse, such as {slice: origin, max_drop: 0.02}."""
    limits: LimitSpec = LimitSpec()
    """What scoring may cost, such as {ms_per_1000_rows: 50, model_mb: 20}."""
    approve: Literal["auto", "manual"] = "auto"
    """With manual, a challenger that would be promoted waits for a person's answer."""

    @model_validator(mode="after")
    def _each_column_once(self) -> GateSpec:
        columns = [guard.slice for guard in self.guards]
        double = [column for column in columns if columns.count(column) > 1]
        if double:
            raise ValueError(f"guards: {double[0]!r} stands twice; expected one guard for a column")
        return self
