"""Which version a rollback takes back, who comes back, and from when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at, deciding, effective_from
from tasks.domain.reigns import barred, reigns, rollback_from, rollback_target, successor
from tasks.errors import UsageError

ONE, TWO, THREE, FOUR = (ModelRef(number, f"d{number}", "v") for number in (1, 2, 3, 4))
JANUARY, FEBRUARY, MARCH, APRIL = (datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4))
HOUR = timedelta(hours=1)


def event(number, before, to, effective, verdict="promote", why="because", **facts) -> LedgerEvent:
    recorded = datetime(2026, 1, number, tzinfo=UTC)
    return LedgerEvent(
        verdict, before, to, to, "2024-01", "e", effective, recorded, "test", why, "run", number=number, **facts
    )


PROMOTED = [event(1, None, ONE, JANUARY), event(2, ONE, TWO, FEBRUARY)]
BACK = event(3, TWO, ONE, MARCH, "rollback", "bad")
REPAIRED = event(3, TWO, ONE, FEBRUARY, "rollback", "bad", repair=True)


def test_without_repair_the_bad_version_keeps_its_days_and_with_repair_it_has_none():
    assert [reign.model for reign in reigns([*PROMOTED, BACK])] == [ONE, TWO, ONE]
    (reign,) = reigns([*PROMOTED, REPAIRED])
    assert (reign.model, reign.start, reign.end) == (ONE, JANUARY, None)


def test_a_repair_of_a_former_champion_leaves_the_days_of_the_one_after_it():
    events = [*PROMOTED, event(3, TWO, THREE, MARCH), replace(REPAIRED, number=4)]
    assert [(reign.model, reign.start) for reign in reigns(events)] == [(ONE, JANUARY), (THREE, MARCH)]
    # a promotion after it goes on from March, not from where the repair reached back to
    assert effective_from(events, JANUARY, HOUR, None) == MARCH


def test_the_event_by_which_a_champion_is_one_is_not_the_one_that_kept_it():
    events = [*PROMOTED, event(3, TWO, TWO, MARCH, "keep")]
    assert deciding(events, APRIL).number == 2
    assert deciding([*events, replace(REPAIRED, number=4)], APRIL).number == 4
    assert deciding(events, JANUARY - HOUR) is None


def test_what_was_believed_before_a_repair_is_still_answered():
    events = [*PROMOTED, REPAIRED]
    assert champion_at(events, MARCH) == ONE
    assert champion_at(events, MARCH, known_at=PROMOTED[1].recorded_at) == TWO
    assert [reign.model for reign in reigns(events, known_at=PROMOTED[1].recorded_at)] == [ONE, TWO]


def test_a_rolled_back_version_is_barred_until_a_person_promotes_it():
    events = [*PROMOTED, BACK]
    assert barred(PROMOTED) == {} and barred(events) == {2: BACK}
    assert barred([*events, event(4, ONE, ONE, MARCH, "keep")]) == {2: BACK}
    assert barred([*events, event(4, ONE, TWO, MARCH, "manual")]) == {}


def test_the_present_champion_is_taken_back_unless_another_version_is_named():
    assert rollback_target(PROMOTED, bad=None, why="bad", repair=False).model == TWO
    assert rollback_target(PROMOTED, bad=1, why="bad", repair=True).model == ONE


def test_the_same_request_twice_never_takes_back_the_version_that_came_back():
    for done, repair in ((BACK, False), (REPAIRED, True), (REPAIRED, False)):
        target = rollback_target([*PROMOTED, done], bad=None, why="bad", repair=repair)
        assert (target.model, target.done) == (TWO, done)
    # with repair after one without: the same version, by an event of its own
    target = rollback_target([*PROMOTED, BACK], bad=None, why="bad", repair=True)
    assert (target.model, target.done) == (TWO, None)


@pytest.mark.parametrize(
    ("events", "request_", "told"),
    [
        ([], {"bad": None}, "there is no champion to roll back"),
        (PROMOTED, {"bad": 7}, "version 7 was never champion"),
        (PROMOTED, {"bad": 1}, "version 1 is champion no longer (with --repair"),
        ([*PROMOTED, BACK], {"bad": None, "why": "other"}, "event 3 rolled version 2 back already (bad)"),
        ([*PROMOTED, BACK, event(4, ONE, THREE, APRIL)], {"bad": None}, "--from 2 goes on with that one, --from 3"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_words_that_make_it_clear(events, request_, told):
    with pytest.raises(UsageError) as caught:
        rollback_target(events, **({"why": "bad", "repair": False} | request_))
    assert told in str(caught.value)


def test_who_comes_back_is_the_champion_before_that_is_not_barred():
    assert successor(PROMOTED, TWO) == ONE
    events = [*PROMOTED, replace(BACK, effective_from=FEBRUARY + HOUR), event(4, ONE, THREE, FEBRUARY + HOUR)]
    assert [reign.model for reign in reigns(events)] == [ONE, TWO, THREE]
    assert successor(events, THREE) == ONE
    with pytest.raises(UsageError, match="before version 1 there was no champion"):
        successor(PROMOTED, ONE)


def test_a_champion_that_no_partition_saw_comes_back_too():
    """Nothing was published between two promotions, so that both take effect at once."""
    events = [*PROMOTED, event(3, TWO, THREE, FEBRUARY)]
    assert [reign.model for reign in reigns(events)] == [ONE, THREE]
    assert successor(events, THREE) == TWO
    assert successor([*events, event(4, TWO, ONE, FEBRUARY, "rollback", "bad")], THREE) == ONE
    assert successor([PROMOTED[0], event(2, ONE, TWO, JANUARY)], TWO) == ONE


def test_a_repair_of_a_former_champion_puts_nobody_before_the_one_after_it():
    events = [*PROMOTED, event(3, TWO, THREE, MARCH), replace(REPAIRED, number=4), event(5, THREE, FOUR, APRIL)]
    assert successor(events, FOUR) == THREE


def start(repair: bool, *, to=ONE, trained=JANUARY - HOUR, published=MARCH):
    return rollback_from(
        PROMOTED, bad=TWO, to=to, trained_as_of=trained, lead=HOUR, repair=repair, last_published_as_of=published
    )


def test_a_rollback_takes_effect_after_what_is_published_and_with_repair_from_the_bad_versions_first_day():
    assert start(False) == MARCH + timedelta(microseconds=1)
    assert start(True) == FEBRUARY


def test_a_version_that_was_not_known_then_cannot_stand_in_for_the_past():
    assert start(True, to=THREE, trained=FEBRUARY - HOUR) == FEBRUARY
    with pytest.raises(UsageError, match="version 3 was trained with what was known at 2024-02-01 00:00 UTC, after"):
        start(True, to=THREE, trained=FEBRUARY)


def test_events_of_an_older_ledger_have_no_repair():
    values = PROMOTED[0].to_dict()
    del values["repair"]
    assert LedgerEvent.from_dict(values) == PROMOTED[0] and not LedgerEvent.from_dict(values).repair
    assert LedgerEvent.from_dict(REPAIRED.to_dict()) == REPAIRED
