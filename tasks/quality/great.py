"""Great Expectations, imported quietly: no lines on stdout, no progress bars, no telemetry."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tasks.quality.deferred import deferred

# What it imports at its top and calls for one expectation only, the divergence of distributions: SciPy's
# entropy, and a chart in the page of its result. Half of the time that importing it takes.
_SELDOM_USED = ("altair", "scipy.stats")


@functools.cache
def great_expectations() -> ModuleType:
    """Imports the library, which takes two seconds of processor time, and returns it.

    Its public-API registry logs a line for each function that it skips, at level info; where the
    root logger writes to stdout, as Airflow's does, those would mix with a step's result. What goes
    wrong with an expectation it also logs, but tells in the result, where a verdict reads it.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr), quietly(), deferred(*_SELDOM_USED), _uncollected():
        import great_expectations as gx
    return gx


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Leaves garbage collection out: of what an import makes nothing is garbage, and looking costs an eighth of it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Passes over deprecation warnings: the library uses parts of pandas and others that we can't mend in it."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


def new_context() -> Any:
    """Returns a context of its own that keeps nothing on disk and reports to nobody."""
    gx = great_expectations()
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    # The default configuration of an ephemeral context makes a temporary folder for Data Docs.
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        analytics_enabled=False,
        progress_bars={"globally": False, "metric_calculations": False},
    )
    return gx.get_context(mode="ephemeral", project_config=config)
