"""The README's words, run as a newcomer would: in a fresh clone, from top to bottom.

Its name sorts before the other end-to-end tests, whose platform would run beside the demo and slow it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tasks.command.parser import parse
from tasks.settings import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line.strip()
]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
ELSEWHERE = {"make test": "this suite is that command"}
MINUTES = 12  # the demo's promise, after installation, on two idle cores


@pytest.mark.timeout(2400)
def test_every_command_of_the_readme_works_from_top_to_bottom(tmp_path: Path) -> None:
    clone = _clone(tmp_path / "a newcomer's clone")
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MILLRACE_", "AIRFLOW", "PYTHON", "MAKE", "MFLAGS"))
    }
    assert COMMANDS[0] == "make demo" and COMMANDS[-1] == "make clean"
    _run("make environment", clone, environment)
    try:
        for command in COMMANDS:
            if command in ELSEWHERE:
                continue
            began = time.monotonic()
            text = _run(command, clone, environment)
            print(f"{time.monotonic() - began:6.1f} s  {command}")
            if command == "make demo":
                assert time.monotonic() - began < 60 * MINUTES
                print(text)
                _check_summary(text)
                for code in PYTHON:
                    shown = _run([".venv/bin/python", "-c", code], clone, environment)
                    assert "model_version" in shown
    finally:
        _run("make clean", clone, environment)
    assert not (clone / ".millrace").exists()


def test_the_readme_shows_the_demos_own_files() -> None:
    shown = re.findall(r"<!-- file:(\S+) -->\n```yaml\n(.*?)```", README, re.S)
    assert [name.rpartition("/")[2] for name, _ in shown] == ["source.yaml", "pipeline.yaml"]
    for name, text in shown:
        assert text == (REPOSITORY / name).read_text()
    pipeline = shown[-1][1]
    assert len(pipeline.splitlines()) <= 40 and yaml.safe_load(pipeline)["pipeline"] == "flight_delays"


def test_the_readme_shows_a_summary_that_a_demo_printed() -> None:
    _check_summary(re.search(r"<!-- demo:begin -->(.*?)<!-- demo:end -->", README, re.S)[1])


def test_the_commands_that_the_readme_shows_with_a_placeholder_are_the_commands_of_today() -> None:
    lines = [line for block in re.findall(r"```text\n(.*?)```", README, re.S) for line in block.splitlines()]
    assert len(lines) == 9 and all(line.startswith("millrace ") for line in lines)
    for line in lines:
        parse(shlex.split(line)[1:])  # ends the process on what it does not know


def test_the_table_of_commands_names_every_command() -> None:
    section = README.partition("\n## The command\n")[2].partition("\n\nSome things")[0]
    named = {word for cell in re.findall(r"^\| (`.*?) \|", section, re.M) for word in re.findall(r"`(\w+)", cell)}
    usage = subprocess.run([sys.executable, "-P", "-m", "tasks", "--help"], capture_output=True, text=True).stdout
    assert named == set(re.findall(r"^    (\w+)", usage, re.M))


def test_the_readme_links_to_what_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target


def _check_summary(text: str) -> None:
    published = re.search(r"published (\d+) predictions for (\d+) scheduled flights of 14 days", text)
    assert published and published[1] == published[2], text[-2000:]
    auc = float(re.search(r"AUC (0\.\d+)", text)[1])
    assert 0.60 <= auc <= 0.70
    assert float(re.search(r"at most ([\d.]+) GB", text)[1]) <= 6.0
    assert 0 < int(re.search(r"^total +(\d+) s$", text, re.M)[1]) <= 60 * MINUTES
    assert len(re.findall(r"^training 2013-1[01]: version", text, re.M)) == 2


def _clone(folder: Path) -> Path:
    """The tracked files as they are in the working tree, in a folder of their own."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, files.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def _run(command: str | list[str], folder: Path, environment: dict[str, str]) -> str:
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout
