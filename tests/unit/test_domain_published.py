"""When the ledger makes a published partition due again, and when it stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tasks.domain.promotion import LedgerEvent, ModelRef
from tasks.domain.published import Overtaken, Published, overtaken

ONE, TWO = (ModelRef(number, f"d{number}", "v") for number in (1, 2))
JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
BY_TWO = Published.of({"model_version": 2})


def event(number: int, before: ModelRef, to: ModelRef, verdict: str, *, repair: bool = False) -> LedgerEvent:
    return LedgerEvent(
        verdict, before, to, to, "", "e", JANUARY, JANUARY, "test", "why", "run", repair=repair, number=number
    )


REPAIRED, BACK = (event(2, TWO, ONE, "rollback", repair=repair) for repair in (True, False))
UNBARRED = event(3, ONE, TWO, "manual")


def test_what_its_champion_scored_stays_whatever_was_rolled_back():
    assert overtaken(BY_TWO, TWO, []) is None
    assert overtaken(BY_TWO, TWO, [BACK]) is None
    assert overtaken(BY_TWO, None, [REPAIRED]) is None  # nobody could score it


def test_what_a_rollback_with_repair_left_is_due():
    why = "rolled-back model: version 2 scored it, version 1 repairs it"
    assert overtaken(BY_TWO, ONE, [REPAIRED]) == Overtaken(True, why)
    assert overtaken(BY_TWO, ONE, [BACK, REPAIRED]) == Overtaken(True, why)


def test_what_a_version_scored_that_was_rolled_back_without_repair_stays_until_somebody_repairs():
    why = "rolled-back model: version 2 scored it, and was rolled back without repair"
    assert overtaken(BY_TWO, ONE, [BACK]) == Overtaken(False, why)


def test_a_champion_that_came_while_another_version_scored_makes_it_due():
    why = "version 1 became its champion while version 2 scored it"
    assert overtaken(BY_TWO, ONE, []) == Overtaken(True, why)
    # a version that came back by hand is rolled back no longer
    assert overtaken(BY_TWO, ONE, [BACK, UNBARRED]) == Overtaken(True, why)


def test_what_was_chosen_by_hand_stays():
    for chosen in ("named", "champion"):
        assert overtaken(replace(BY_TWO, chosen=chosen), ONE, [REPAIRED]) is None
