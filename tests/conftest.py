"""For all tests: Airflow, which reads its home when it is imported, gets one of its own."""

from __future__ import annotations

import os
import shutil
import tempfile

_MADE = None if "AIRFLOW_HOME" in os.environ else tempfile.mkdtemp(prefix="millrace-airflow-")
if _MADE is not None:
    os.environ["AIRFLOW_HOME"] = _MADE
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


def pytest_unconfigure() -> None:
    """Remove the home that was made here, and nothing that the caller named."""
    if _MADE is not None:
        shutil.rmtree(_MADE, ignore_errors=True)
