"""The base of what a team writes: frozen, unknown keys refused; and the types that several specs share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from tasks.domain.partition import Span


class Frozen(BaseModel):
    """Base of the spec types: frozen, unknown keys refused, no silent conversions of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def parsed(kind: type) -> BeforeValidator:
    """Reads a text with `kind.parse`; what is of the kind already stays."""
    return BeforeValidator(lambda value: value if isinstance(value, kind) else kind.parse(value))


Length = Annotated[Span, parsed(Span)]
