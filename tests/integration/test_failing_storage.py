"""A full disk, a lake that can only be read, and MLflow that is down: clear errors, nothing half written."""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support import reader
from tests.support.faulty_loop import clean_failure
from tests.support.faulty_proxy import DyingProxy
from tests.support.mlflow_server import mlflow_server
from tests.support.pipelines import deliver, write_config
from tests.support.project import Ended, Project, historical_january, make_project, with_settings

DAYS = "2024-01-01..2024-01-03"
LIMITED = "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
LIMITED += "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
LIMITED += "sys.argv[1:] = sys.argv[2:]; import runpy; runpy.run_module('tasks', run_name='__main__', alter_sys=True)"
"""Runs the command with files of at most so many bytes: what a full disk is to a writer, without one."""


@pytest.fixture
def orders(tmp_path: Path) -> Project:
    """Three days of orders are delivered, the first is ingested."""
    write_config(tmp_path / "config", "late_orders")
    project = make_project(tmp_path)
    deliver(project.incoming, date(2024, 1, 1), date(2024, 1, 3), orders=2_000)
    project.run("ingest", "orders", "2024-01-01")
    return project


def lake_of(project: Project) -> Path:
    return project.settings.home / "lake"


def in_namespace(project: Project, mounts: str, *commands: str) -> list[Ended]:
    """Run commands of `millrace` where other mounts hold, for them alone; skips where that is not permitted."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not permitted here: unshare --mount fails")
    work = project.folder / "work"
    work.mkdir(exist_ok=True)
    script = f"set -e\n{mounts}\nset +e\n"
    for number, command in enumerate(commands):
        script += f"({command}) >{number}.out 2>{number}.err; echo $? >{number}.code\n"
    ran = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        cwd=work,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    read = [
        [(work / f"{number}.{name}").read_text() for name in ("code", "out", "err")] for number in range(len(commands))
    ]
    return [Ended(int(code), out, err) for code, out, err in read]


def millrace(*words: str) -> str:
    return shlex.join([sys.executable, "-P", "-m", "tasks", *words, "--json"])


def check_unchanged_then_works(project: Project, before: dict) -> None:
    """Nothing was published; the same command does its work once the store takes it."""
    reader.check(lake_of(project))
    assert reader.state(lake_of(project)) == before
    again = project.command("run", "ingest", "orders", DAYS, "--json")
    assert again.code == 0, again.err
    reader.check(lake_of(project))
    assert len(reader.state(lake_of(project))["sources/orders/raw"]) == 3


def test_a_file_that_can_not_grow_publishes_nothing_and_says_which(orders: Project):
    before = reader.state(lake_of(orders))
    ended = Ended(*_ended(orders.start("4096", "run", "ingest", "orders", DAYS, "--json", program=["-c", LIMITED])))
    error = clean_failure(ended)
    assert (error["type"], error["retry"]) == ("StorageError", True)
    assert str(orders.settings.home) in error["message"] and error["hint"]
    check_unchanged_then_works(orders, before)


def test_a_full_disk_publishes_nothing_and_says_where(orders: Project):
    before = reader.state(lake_of(orders))
    lake = shlex.quote(str(lake_of(orders)))
    mounts = f"""
cp -a {lake} lake.copy
mount -t tmpfs -o size=2m tmpfs {lake}
cp -a lake.copy/. {lake}/
head -c 100m /dev/zero >{lake}/filler 2>/dev/null || true
"""
    kept = f"rm {lake}/filler; cp -a {lake} after"
    failed, _ = in_namespace(orders, mounts, millrace("run", "ingest", "orders", DAYS), kept)
    error = clean_failure(failed)
    assert (error["type"], error["retry"]) == ("StorageError", True)
    assert "No space left" in error["message"] and str(lake_of(orders)) in error["message"]
    assert "disk" in error["hint"]
    after = orders.folder / "work" / "after"
    reader.check(after)
    assert reader.state(after) == before
    assert not reader.orphans(after)


def test_a_lake_that_can_only_be_read_says_so_and_answers_questions(orders: Project):
    before = reader.state(lake_of(orders))
    lake = shlex.quote(str(lake_of(orders)))
    mounts = f"mount --bind {lake} {lake}\nmount -o remount,bind,ro {lake}"
    failed, status = in_namespace(orders, mounts, millrace("run", "ingest", "orders", DAYS), millrace("status"))
    error = clean_failure(failed)
    assert (error["type"], error["retry"]) == ("StorageError", True)
    assert "Read-only file system" in error["message"] and str(lake_of(orders)) in error["message"]
    assert error["hint"]
    assert status.code == 0, status.err
    check_unchanged_then_works(orders, before)


def _ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate("", timeout=240)
    return process.returncode, out, err


@pytest.fixture
def january(tmp_path: Path) -> Project:
    """Ten clean days of January, and no model."""
    return historical_january(tmp_path / "project", "http://127.0.0.1:9", first=22)


def test_mlflow_that_is_down_or_dies_in_a_registration_stops_it_and_a_retry_registers_once(january: Project, tmp_path):
    down = january.command("run", "promote", "late_orders", "2024-02", "--json")
    error = clean_failure(down)
    assert (error["type"], error["retry"]) == ("RegistryError", True)
    assert "http://127.0.0.1:9" in error["message"] and "MILLRACE_MLFLOW" in error["hint"]
    assert "ledger/late_orders" not in reader.state(lake_of(january))
    (tmp_path / "mlflow").mkdir()
    with mlflow_server(tmp_path / "mlflow") as uri:
        there = with_settings(january, mlflow=uri)
        with DyingProxy(uri, "/mlflow/model-versions/create") as wire:
            died = with_settings(january, mlflow=wire.endpoint)
            error = clean_failure(died.command("run", "promote", "late_orders", "2024-02", "--json"))
            assert (error["type"], error["retry"]) == ("RegistryError", True)
            assert wire.died, "MLflow was not asked to register"
        assert "ledger/late_orders" not in reader.state(lake_of(january))
        again = there.command("run", "promote", "late_orders", "2024-02", "--json")
        assert again.code == 0, again.err
        reader.check(lake_of(january))
        assert len(reader.state(lake_of(january))["ledger/late_orders"]) == 1
        versions = MlflowClient(uri, registry_uri=uri).search_model_versions("name = 'late_orders'")
        assert [int(one.version) for one in versions] == [1]
    deliver(january.incoming, date(2024, 2, 1), date(2024, 2, 4))
    january.load({"orders": "2024-02-01..2024-02-04", "arrivals": "2024-02-01..2024-02-03"})
    scored = january.command("run", "score", "late_orders", "2024-02-02..2024-02-04", "--json")
    assert scored.code == 0, scored.err
    assert len(reader.state(lake_of(january))["late_orders/predictions"]) == 3
