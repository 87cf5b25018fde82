"""What a ledger does, in a folder and on S3."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest

from tasks.domain.spec import line_of
from tasks.errors import DigestError, LedgerConflictError
from tasks.lake import open_lake
from tasks.lake.ledger import Ledger
from tasks.settings import Settings

WRITERS = 8


@pytest.fixture
def ledger(storage: Settings) -> Ledger:
    return open_lake(storage).ledger("flight_delays")


def key(number: int) -> str:
    return f"ledger/flight_delays/{number:06d}.json"


def change(storage: Settings, place: int, **values: object) -> None:
    store = open_lake(storage).objects
    store.put(key(place), json.dumps({**json.loads(store.get(key(place))), **values}).encode())


def test_events_are_numbered_and_chained(ledger: Ledger) -> None:
    assert ledger.events() == []
    moment = datetime(2013, 5, 1, tzinfo=UTC).isoformat()
    first = ledger.append({"verdict": "promote", "effective_from": moment, "to_model": {"version": 1}}, expected=0)
    second = ledger.append({"verdict": "keep"}, expected=1)
    assert ledger.events() == [first, second]
    assert (first["number"], first["previous"], first["effective_from"]) == (1, "", moment)
    assert (second["number"], second["previous"]) == (2, first["digest"])


def test_the_ledger_of_a_backtest_lies_below_the_main_one_and_is_another(ledger: Ledger, storage: Settings) -> None:
    lake = open_lake(storage)
    assert lake.backtests("flight_delays") == ()
    first = ledger.append({"verdict": "promote"}, expected=0)
    line = line_of("flight_delays", "q2")
    theirs = lake.ledger(line).append({"verdict": "keep"}, expected=0)
    assert ledger.events() == [first] and lake.ledger(line).events() == [theirs]
    assert lake.objects.exists("ledger/flight_delays/backtests/q2/000001.json")
    assert lake.backtests("flight_delays") == ("q2",)


def test_an_event_is_returned_as_it_will_be_read(ledger: Ledger) -> None:
    written = ledger.append({"folds": {9: 0.1, 10: 1e-30}, "slices": ("JFK", None), "reason": "größer"}, expected=0)
    assert written["folds"] == {"9": 0.1, "10": 1e-30} and written["slices"] == ["JFK", None]
    assert ledger.events() == [written]
    with pytest.raises(ValueError):
        ledger.append({"gain": float("nan")}, expected=1)
    assert ledger.events() == [written]


def test_an_event_can_be_checked_with_any_tool(ledger: Ledger, storage: Settings) -> None:
    ledger.append({"reason": "größer", "gain": 0.1}, expected=0)
    event = json.loads(open_lake(storage).objects.get(key(1)))
    digest = event.pop("digest")
    text = json.dumps(event, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_a_decision_on_an_old_state_is_refused(ledger: Ledger) -> None:
    ledger.append({"verdict": "promote"}, expected=0)
    with pytest.raises(LedgerConflictError, match="event 1 .* somebody else"):
        ledger.append({"verdict": "keep"}, expected=0)
    with pytest.raises(LedgerConflictError, match="no event 5"):
        ledger.append({"verdict": "keep"}, expected=5)
    assert [event["verdict"] for event in ledger.events()] == ["promote"]


def test_each_number_has_one_winner_among_many_writers(storage: Settings) -> None:
    start = Barrier(WRITERS, timeout=60)  # a writer that fails must not leave the others waiting

    def write(writer: int) -> int:
        mine = open_lake(storage).ledger("flight_delays")
        won = 0
        for number in range(5):
            start.wait()
            try:
                mine.append({"writer": writer}, expected=number)
                won += 1
            except LedgerConflictError:
                pass
            start.wait()
        return won

    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(write, range(WRITERS)))
    events = open_lake(storage).ledger("flight_delays").events()
    assert sum(won) == len(events) == 5
    assert [sum(event["writer"] == writer for event in events) for writer in range(WRITERS)] == won


def test_a_changed_event_is_found(ledger: Ledger, storage: Settings) -> None:
    for number in range(3):
        ledger.append({"verdict": "keep"}, expected=number)
    change(storage, 2, verdict="promote")
    with pytest.raises(DigestError, match="event 2 .* not what was written"):
        ledger.events()


def test_a_changed_event_with_a_digest_made_to_fit_breaks_the_chain(ledger: Ledger, storage: Settings) -> None:
    for number in range(2):
        ledger.append({"verdict": "keep"}, expected=number)
    forged = {"number": 1, "previous": "", "verdict": "promote"}
    text = json.dumps(forged, sort_keys=True, separators=(",", ":"))
    change(storage, 1, **forged, digest=hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(DigestError, match="event 2 .* does not follow"):
        ledger.events()


def test_a_missing_event_is_found(ledger: Ledger, storage: Settings) -> None:
    for number in range(3):
        ledger.append({"verdict": "keep"}, expected=number)
    open_lake(storage).objects.delete(key(2))
    with pytest.raises(DigestError, match="event 2 .* found ledger/flight_delays/000003.json"):
        ledger.events()


def test_a_torn_event_is_found_before_another_is_written(ledger: Ledger, storage: Settings) -> None:
    ledger.append({"verdict": "keep"}, expected=0)
    open_lake(storage).objects.put(key(1), b'{"number": 1')
    for read_or_write in (ledger.events, lambda: ledger.append({"verdict": "keep"}, expected=1)):
        with pytest.raises(DigestError, match="event 1 .* can't be read"):
            read_or_write()


def test_an_event_cannot_give_itself_a_number(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="number"):
        ledger.append({"number": 7}, expected=0)


def test_ledgers_of_two_pipelines_are_apart(storage: Settings) -> None:
    lake = open_lake(storage)
    lake.ledger("delays").append({"verdict": "keep"}, expected=0)
    assert lake.ledger("delays_2").events() == []
