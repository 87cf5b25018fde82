"""Style, formatting and the direction of imports: what `make check` runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tasks.settings import REPOSITORY

RUN_LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
CHECKS = {
    "ruff's rules": ["-m", "ruff", "check", "--no-cache", "."],
    "ruff's format": ["-m", "ruff", "format", "--check", "--no-cache", "."],
    "import-linter's contracts": ["-c", RUN_LINT],
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_working_tree_keeps_the_rules(check: str) -> None:
    ran = subprocess.run(
        [sys.executable, *CHECKS[check]],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "plugins"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_make_check_runs_the_same_checks() -> None:
    target = (REPOSITORY / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert all(word in target for word in ("ruff check .", "ruff format --check .", "lint_imports"))
    assert target.count("\n\t@") == len(CHECKS)
