"""What is published of a partition, and when the ledger makes it due again: pure.

A partition is scored by the champion at its as_of, by the ledger as it was then. The ledger may name another version
there since: a rollback with repair took the one that scored it out of the past, or a promotion was recorded between
a score's last look and its commit. Such a partition is due. What was chosen by hand is not; neither is what a version
scored that was rolled back without repair: it stays until somebody repairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.domain.promotion import LedgerEvent, ModelRef
from tasks.domain.reigns import barred
from tasks.domain.results import Chosen, Data


@dataclass(frozen=True)
class Published:
    """How a published partition was scored, as its newest commit says.

    Attributes:
        version: of the model.
        chosen: how the model was chosen.
        data: what it was computed from.
        restated: what corrected data it was computed from, as `source/partition@revision`.
    """

    version: int
    chosen: Chosen
    data: Data
    restated: tuple[str, ...]

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Published:
        """From what a commit of the predictions says of a partition."""
        return cls(
            meta["model_version"],
            meta.get("chosen", "as-of"),
            meta.get("data", "as-known"),
            tuple(meta.get("restated", ())),
        )


@dataclass(frozen=True)
class Overtaken:
    """Another version is champion at a partition's as_of than the one that scored it as its champion.

    Attributes:
        due: whether it is to be scored again.
        why: in words, which versions and how that came.
    """

    due: bool
    why: str


def overtaken(found: Published, champion: ModelRef | None, events: Sequence[LedgerEvent]) -> Overtaken | None:
    """Whether the ledger names another champion than the one that scored a partition, and what follows; else None.

    Args:
        champion: at the partition's as_of, by `events`.
    """
    if found.chosen != "as-of" or champion is None or champion.version == found.version:
        return None
    back = barred(events).get(found.version)
    if back is None:
        return Overtaken(
            True, f"version {champion.version} became its champion while version {found.version} scored it"
        )
    scored = f"rolled-back model: version {found.version} scored it"
    if not back.repair:
        return Overtaken(False, f"{scored}, and was rolled back without repair")
    return Overtaken(True, f"{scored}, version {champion.version} repairs it")
