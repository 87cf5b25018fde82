"""For all tests: Airflow, which reads its home when it is imported, gets one of its own; shares for `pytest -n`."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from xdist.scheduler import LoadScopeScheduling

_MADE = tempfile.mkdtemp(prefix="millrace-airflow-")
os.environ["AIRFLOW_HOME"] = _MADE  # never the caller's, and never that of the process beside this one
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


class _Shares(LoadScopeScheduling):
    """A file goes to one process as a whole, and the end-to-end tests together: they share one platform.

    A proof is many long cases of a file: each goes to whoever is free.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if self.config.option.markexpr == "proof":
            return nodeid
        return "tests/e2e" if file.startswith("tests/e2e/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """In the order of the files: the long ones come first, the short ones fill up."""
    config.option.loadscopereorder = False
    return _Shares(config, log)


def pytest_unconfigure() -> None:
    """Remove the home that was made here."""
    shutil.rmtree(_MADE, ignore_errors=True)
