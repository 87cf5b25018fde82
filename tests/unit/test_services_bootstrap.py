"""The environment is made from the lock; what can't work is refused in one line."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.services import bootstrap
from tasks.settings import REPOSITORY

SCRIPT = REPOSITORY / "tasks" / "services" / "bootstrap.py"


def interpreter(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_candidate_that_does_not_start_is_passed_over(tmp_path, monkeypatch):
    interpreter(tmp_path, "python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    interpreter(tmp_path, "python3.12", "echo 'No module named ensurepip' >&2; exit 1")
    interpreter(tmp_path, "python3.11", f'exec {sys.executable} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert bootstrap.choose_interpreter(None) == os.path.realpath(sys.executable)


def test_other_versions_are_refused_in_one_line_with_a_way_out(tmp_path, monkeypatch):
    for name, version in (("python3", "3.10"), ("python3.13", "3.14")):
        interpreter(tmp_path, name, f"printf '{version}\\n/x\\n'")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bootstrap.Refusal, match=r"found python3 \(3\.10\), python3\.13 \(3\.14\); install one") as told:
        bootstrap.choose_interpreter(None)
    assert "\n" not in str(told.value)


def test_a_named_interpreter_is_taken_or_refused_and_never_replaced(tmp_path):
    old = interpreter(tmp_path, "python", "printf '3.9\\n/x\\n'")
    with pytest.raises(bootstrap.Refusal, match=r"\(3\.9\)"):
        bootstrap.choose_interpreter(old)
    with pytest.raises(bootstrap.Refusal, match="no-such-python"):
        bootstrap.choose_interpreter("no-such-python")


@pytest.mark.parametrize("system, machine", [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")])
def test_other_machines_are_refused_in_one_line(monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(bootstrap.Refusal, match=f"runs on Linux x86-64, not on {system} {machine}; use"):
        bootstrap.check_machine()


@pytest.mark.parametrize("libc", [("", ""), ("glibc", "2.17"), ("musl", "1.2.4")])
def test_other_c_libraries_are_refused(monkeypatch, libc):
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(bootstrap.Refusal, match=r"needs glibc 2\.28 or later"):
        bootstrap.check_machine()


@pytest.mark.parametrize("sign", [":", "%"])
def test_a_path_that_python_or_mlflow_can_not_hold_is_refused(monkeypatch, sign):
    monkeypatch.setattr(bootstrap, "ROOT", f"/srv/mill{sign}race")
    with pytest.raises(bootstrap.Refusal, match="colon or a per cent sign; move the project"):
        bootstrap.check_machine()


def test_the_script_ends_with_2_and_one_line_where_it_refuses(tmp_path):
    old = interpreter(tmp_path, "python3", "printf '3.7\\n/x\\n'")
    copy = tmp_path / "a project" / "tasks" / "services" / "bootstrap.py"
    copy.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, copy)
    done = subprocess.run([sys.executable, "-I", copy, old], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("millrace: needs Python 3.11")


def test_uv_comes_out_of_the_lock_with_its_hashes(tmp_path, monkeypatch):
    lock = tmp_path / "requirements.lock"
    monkeypatch.setattr(bootstrap, "LOCK", str(lock))
    block = "uv==1.2 ; sys_platform == 'linux' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    lock.write_text(
        f"uvloop==1 \\\n    --hash=sha256:cc\n{block}    # via millrace\nwrapt==3 \\\n    --hash=sha256:dd\n"
    )
    assert bootstrap.uv_lines() == block
    lock.write_text("uvloop==1\n")
    assert bootstrap.uv_lines() == ""


def test_uv_is_given_the_indexes_that_pip_knows(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one.example/simple\nextra-index-url = https://two.example/simple\n"
        "    https://three.example/simple\n[install]\nfind-links = /a /b\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setattr(bootstrap, "PYTHON", sys.executable)
    found = bootstrap.uv_environment()
    assert found["UV_DEFAULT_INDEX"] == "https://one.example/simple"
    assert found["UV_INDEX"].split()[-1] == "https://three.example/simple"
    assert found["UV_FIND_LINKS"] == "/a,/b"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert bootstrap.uv_environment()["UV_DEFAULT_INDEX"] == "https://mine.example/simple"


def test_uv_does_without_a_cache_where_it_can_write_none(tmp_path, monkeypatch):
    for name in ("UV_NO_CACHE", "UV_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bootstrap, "PYTHON", sys.executable)
    file = tmp_path / "file"
    file.touch()

    def starts(environment: dict[str, str]) -> bool:
        command = [sys.executable, "-m", "uv", "pip", "list", "--quiet", "--python", sys.executable]
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0

    for name, below in (("HOME", ".cache/uv"), ("XDG_CACHE_HOME", "uv"), ("UV_CACHE_DIR", "")):
        # below a file nobody, not even root, can make a folder
        monkeypatch.setenv(name, str(file / "nowhere"))
        given = bootstrap.uv_environment()
        assert given["UV_NO_CACHE"] == "1"
        assert not starts({**os.environ}) and starts(given)
        monkeypatch.setenv(name, str(tmp_path / name))
        assert bootstrap.is_writable(bootstrap.uv_cache())
        assert (tmp_path / name / below).is_dir()
    assert "UV_NO_CACHE" not in bootstrap.uv_environment()


def test_the_makefile_runs_under_a_path_with_blanks_and_needs_no_environment_for_help(tmp_path):
    folder = tmp_path / "a 'path'"
    folder.mkdir()
    shutil.copy(REPOSITORY / "Makefile", folder)
    # the suite itself runs under make: what that one hands down would make this one announce its folder
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make"], cwd=folder, env=clean, capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()][:3] == ["help", "demo", "test"]
    done = subprocess.run(["make", "down"], cwd=folder, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "there is no environment: nothing runs\n"
