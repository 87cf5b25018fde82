"""Whether a training that was done again gave the same: the environments compared, and the verdict. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ReproductionVerdict = Literal["same bytes", "within tolerance", "different"]

COMPARED = ("code", "lock", "python", "machine", "xgboost", "device", "way", "workers", "threads")
"""What a model's bytes depend on beside its inputs. `code` is the package's digest: two commits with the same have
the same code, and one commit with another was changed."""


@dataclass(frozen=True)
class Difference:
    """One thing in which the environment was another; None where it is not known.

    Attributes:
        name: of `COMPARED`.
        then: as the version's descriptor recorded it.
        now: at this training.
    """

    name: str
    then: Any
    now: Any


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        same_bytes: whether they are one model.
        largest: the largest absolute difference of two predictions.
        tolerance: how large it may be.
        rows: that were compared.
    """

    same_bytes: bool
    largest: float
    tolerance: float
    rows: int


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Difference, ...]:
    """In what two environments differ; what is not known of one of them counts as a difference."""
    pairs = [Difference(name, then.get(name), now.get(name)) for name in COMPARED]
    return tuple(one for one in pairs if one.then is None or one.then != one.now)


def verdict(found: tuple[Difference, ...], workers: int, comparison: Comparison) -> tuple[ReproductionVerdict, str]:
    """The verdict, and why.

    `same bytes` is said only where everything agrees and one worker trained: then the bytes must be the same, and
    others are a failure however near the predictions are. Elsewhere predictions are compared, and equal bytes are
    told, but promise nothing.
    """
    names = ", ".join(one.name for one in found)
    near = comparison.largest <= comparison.tolerance
    seen = f"the largest difference of {comparison.rows} predictions is {comparison.largest:.3g}, {comparison.tolerance:.3g} is allowed"
    if not found and workers == 1:
        if comparison.same_bytes:
            return "same bytes", "same inputs, same code, same environment, one worker: the digest is the recorded one"
        return "different", f"the environment is the recorded one, but the bytes are others; {seen}"
    why = f"the environment differs ({names})" if found else f"{workers} workers add up in no fixed order"
    also = "; the bytes happen to be the same" if comparison.same_bytes else ""
    return ("within tolerance" if near else "different"), f"{why}: {seen}{also}"
