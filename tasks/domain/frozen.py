"""The base of what a team writes: frozen, unknown keys refused; and the types that several specs share."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from tasks.domain.partition import Offset, Span


class Frozen(BaseModel):
    """Base of the spec types: frozen, unknown keys refused, no silent conversions of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def spelled(self) -> dict[str, Any]:
        """As JSON values that `model_validate` reads back to the same: what a model was trained by is kept with it."""
        return {name: _spelled(getattr(self, name)) for name in type(self).model_fields}


def _spelled(value: Any) -> Any:
    if hasattr(value, "spelled"):
        return value.spelled()
    if isinstance(value, Span | Offset | date):
        return str(value)
    if isinstance(value, dict):
        return {name: _spelled(item) for name, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, list | tuple) else value


def parsed(kind: type) -> BeforeValidator:
    """Reads a text with `kind.parse`; what is of the kind already stays."""
    return BeforeValidator(lambda value: value if isinstance(value, kind) else kind.parse(value))


Length = Annotated[Span, parsed(Span)]
