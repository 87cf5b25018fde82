"""A search for the best parameters, as a pipeline's `train.search` asks for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tasks.domain.frozen import Frozen, Length

_EXAMPLES = "expected [3, 8], [0.01, 0.3, log] or {choice: [a, b]}"


@dataclass(frozen=True)
class Dimension:
    """What one parameter may be: a range with both ends in it, or one of several values.

    Attributes:
        low, high: of the range; None for a choice.
        log: whether the range is searched by its logarithm.
        choice: the values; empty for a range.
    """

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choice: tuple[float | int | str | bool, ...] = ()

    def spelled(self) -> dict[str, list] | list:
        """As a spec's file says it."""
        return {"choice": list(self.choice)} if self.choice else [self.low, self.high, *(["log"] if self.log else [])]


def _dimension(value: Any) -> Dimension:
    if isinstance(value, Dimension):
        return value
    if isinstance(value, dict) and set(value) == {"choice"} and isinstance(value["choice"], list | tuple):
        choice = tuple(value["choice"])
        if not all(isinstance(one, float | int | str | bool) for one in choice):
            raise ValueError(f"choice: expected numbers, texts or truth values, found {list(choice)!r}")
        if len({(type(one), one) for one in choice}) < max(len(choice), 2):
            raise ValueError(f"choice: expected at least two different values, found {list(choice)!r}")
        return Dimension(choice=choice)
    if not isinstance(value, list | tuple) or len(value) not in (2, 3) or list(value[2:]) not in ([], ["log"]):
        raise ValueError(f"{_EXAMPLES}, found {value!r}")
    low, high = value[:2]
    if not all(isinstance(end, float | int) and not isinstance(end, bool) for end in (low, high)):
        raise ValueError(f"{_EXAMPLES}, found {value!r}")
    if not low < high or math.isinf(low) or math.isinf(high):
        raise ValueError(f"expected a range from its lowest to its highest value, found {value!r}, which is none")
    log = len(value) == 3
    if log and low <= 0:
        raise ValueError(f"expected a range above 0 where log stands, found {value!r}")
    return Dimension(low, high, log)


def _space(value: Any) -> Any:
    if not isinstance(value, dict) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError(f"expected ranges by parameter, such as {{max_depth: [3, 8]}}, found {value!r}")
    return value


class SearchSpec(Frozen):
    """A search before a training: trials on the training window, the last part of which judges them."""

    trials: int = Field(ge=1, le=1000, strict=True)
    """How many sets of parameters are tried."""
    space: Annotated[dict[str, Annotated[Dimension, BeforeValidator(_dimension)]], BeforeValidator(_space)]
    """What each parameter may be: [low, high], [low, high, log] or {choice: [...]}."""
    validation: Length | None = None
    """The end of the training window that judges; left out, as long as `train.holdout`, a quarter at most."""
