"""Processes that outlive their starter: found again, ended whole, never mistaken."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

import pytest

from tasks.services import process
from tasks.services.home import Home, write_json

# a parent that ignores SIGTERM, with a child in a group of its own and one in a session of its own
_STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def started(tmp_path):
    home = Home(tmp_path)
    home.prepare()
    records = []

    def start(code: str) -> process.Record:
        log = home.logs / f"{len(records)}.log"
        record = process.start(
            home.run / f"{len(records)}.json",
            [sys.executable, "-c", code],
            log=log,
            environment=dict(os.environ),
            mark=home.digest,
            folder=tmp_path,
        )
        records.append(record)
        until = time.monotonic() + 20
        while not process.tail(log) and time.monotonic() < until:
            time.sleep(0.02)
        return record

    yield home, start
    process.end(records, mark=home.digest, patience=0)


def test_ending_a_process_ends_what_it_started_even_in_other_sessions(started):
    home, start = started
    record = start(_STUBBORN)
    assert len(process.members([record], mark=home.digest)) == 3
    process.end([record], mark=home.digest, patience=0.3)
    assert process.members([record], mark=home.digest) == set()
    assert not process.alive(record)


def test_children_are_found_by_the_mark_when_their_parent_has_gone(started):
    home, start = started
    record = start(_STUBBORN)
    os.kill(record.pid, signal.SIGKILL)
    while process.alive(record):
        time.sleep(0.02)
    assert len(process.members([], mark=home.digest)) == 2
    process.end([record], mark=home.digest, patience=2)
    assert process.members([record], mark=home.digest) == set()


def test_a_number_that_another_process_has_by_now_is_left_alone(started):
    home, start = started
    record = start("import time; print(1, flush=True); time.sleep(600)")
    stale = replace(record, started=record.started - 1)
    assert process.alive(record) and not process.alive(stale)
    process.end([stale], mark="", patience=0.2)
    assert process.alive(record)


def test_a_record_of_an_earlier_boot_is_dead(started):
    _, start = started
    record = start("import time; print(1, flush=True); time.sleep(600)")
    earlier = replace(record, boot="another")
    assert not process.alive(earlier)
    assert process.members([earlier], mark="") == set()


def test_a_record_is_read_back_and_a_broken_one_is_none(tmp_path):
    home = Home(tmp_path)
    home.prepare()
    path = home.run / "one.json"
    assert process.load(path) is None
    write_json(path, {"pid": 1, "started": 2, "boot": "b", "command": "c"})
    assert process.load(path) == process.Record(1, 2, "b", "c")
    for broken in ("{", '{"pid": 1}', "[]"):
        path.write_text(broken)
        assert process.load(path) is None


def test_a_program_that_is_missing_is_told_by_name(tmp_path):
    home = Home(tmp_path)
    home.prepare()
    with pytest.raises(process.ServiceError, match="no-such-program can't be started"):
        process.start(
            home.run / "x.json",
            ["/no-such-program"],
            log=home.logs / "x.log",
            environment={},
            mark="m",
            folder=tmp_path,
        )


def test_a_log_that_has_grown_is_set_aside_at_the_next_start(started, monkeypatch):
    home, start = started
    monkeypatch.setattr(process, "_LOG_BYTES", 3)
    (home.logs / "0.log").write_text("old words\n")
    start("print('new words', flush=True); import time; time.sleep(600)")
    assert (home.logs / "0.log.1").read_text() == "old words\n"
    assert process.tail(home.logs / "0.log") == "new words"


def test_memory_is_counted_in_bytes():
    assert process.memory([os.getpid()]) > 1_000_000
    assert process.memory([0]) == 0
