"""The folder of an installation: lock, secrets, and what is never removed."""

from __future__ import annotations

import json
import multiprocessing
import os
import time

import pytest

from tasks import services
from tasks.errors import ServiceError
from tasks.services.home import Home, Secrets, read_json, write_json
from tasks.settings import load_settings


def settings_of(home):
    return load_settings({"MILLRACE_HOME": str(home)})


def test_secrets_are_made_once_and_only_their_user_reads_them(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    first = Secrets.of(home)
    assert Secrets.of(home) == first
    assert (home.run / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert home.run.stat().st_mode & 0o777 == 0o700
    other = Home(tmp_path / "other")
    other.prepare()
    assert Secrets.of(other).admin_password != first.admin_password
    assert len(first.admin_password) >= 20


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ServiceError, match=r"is not a folder of Millrace: it holds thesis\.docx"):
        Home(tmp_path).prepare()
    assert not (tmp_path / "run").exists()


def test_clean_leaves_a_folder_with_other_things_alone(tmp_path):
    for name in ("thesis.docx", "cache", "logs"):
        (tmp_path / name).mkdir()
    with pytest.raises(ServiceError, match="is not a folder of Millrace"):
        services.clean(settings_of(tmp_path))
    assert (tmp_path / "cache").exists() and (tmp_path / "logs").exists()


def test_clean_removes_what_is_ours_and_leaves_what_came_later(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    (home.root / "lake" / "deep").mkdir(parents=True)
    (home.root / "notes.txt").write_text("mine")
    services.clean(settings_of(home.root))
    assert [entry.name for entry in home.root.iterdir()] == ["notes.txt"]
    (home.root / "notes.txt").unlink()
    home.root.rmdir()
    services.clean(settings_of(home.root))
    assert not home.root.exists()


def test_clean_removes_a_link_and_not_what_it_leads_to(tmp_path):
    home, elsewhere = Home(tmp_path / "home"), tmp_path / "big-disk"
    home.prepare()
    elsewhere.mkdir()
    (elsewhere / "data").touch()
    (home.root / "lake").symlink_to(elsewhere)
    services.clean(settings_of(home.root))
    assert not home.root.exists() and (elsewhere / "data").exists()


def test_down_where_nothing_was_ever_started_makes_no_folder(tmp_path):
    services.down(settings_of(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_home_that_was_never_started_has_no_addresses_and_stopped_parts(tmp_path):
    settings = settings_of(tmp_path / "home")
    assert services.addresses(settings) is None
    assert {part.state for part in services.status(settings)} == {"stopped"}
    assert [part.name for part in services.status(settings)][:2] == ["postgres", "mlflow"]
    with pytest.raises(ServiceError, match="was not started"):
        services.AirflowApi(settings)
    with pytest.raises(ServiceError, match="was not started"):
        services.airflow_environment(settings)


def _hold(root, held, seconds):
    with Home(root).lock():
        held.set()
        time.sleep(seconds)


def test_one_process_at_a_time_holds_the_lock(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, 0.6))
    other.start()
    assert held.wait(30)
    with pytest.raises(ServiceError, match="starting or stopping"), Home(tmp_path).lock(patience=0.2):
        raise AssertionError("two hold it")
    with Home(tmp_path).lock(patience=30):
        pass
    other.join()


def test_the_lock_holds_after_the_folder_was_removed_meanwhile(tmp_path):
    home = Home(tmp_path / "home")
    with home.lock():
        os.unlink(home.run / "lock")
        with home.lock(patience=1):
            assert (home.run / "lock").exists()


def test_a_json_file_is_written_whole_and_a_broken_one_reads_as_nothing(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]
    path.write_text('{"a":')
    assert read_json(path, {}) == {}
    assert read_json(tmp_path / "missing.json") is None
