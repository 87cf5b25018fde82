"""A virtual environment is made, kept, and made again when it is not what the lock says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tasks.services import bootstrap


def test_a_complete_environment_is_left_alone_and_a_changed_lock_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "ROOT", str(tmp_path))
    monkeypatch.setattr(bootstrap, "LOCK", str(tmp_path / "requirements.lock"))
    monkeypatch.setattr(bootstrap, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(bootstrap, "STAMP", str(tmp_path / ".venv" / "millrace.json"))
    monkeypatch.setattr(bootstrap, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    (tmp_path / "requirements.lock").write_text("")
    assert not bootstrap.is_current(None)
    bootstrap.install(os.path.realpath(sys.executable))
    assert bootstrap.is_current(None)
    told = subprocess.run([tmp_path / ".venv" / "bin" / "millrace"], capture_output=True, text=True)
    assert "No module named tasks" in told.stderr  # the command is there, and looks into this folder only
    assert bootstrap.is_current(os.path.realpath(sys.executable))
    assert not bootstrap.is_current("/another/python")
    (tmp_path / "requirements.lock").write_text("# another one\n")
    assert not bootstrap.is_current(None)
    (tmp_path / "requirements.lock").write_text("")
    shutil.rmtree(tmp_path / ".venv" / "bin")
    assert not bootstrap.is_current(None)
