"""Importing Great Expectations without what a validation never uses, and using it all the same."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest

from tasks.quality import load_suite, render_docs, validate
from tasks.quality.deferred import deferred
from tasks.quality.great import great_expectations, new_context


def run(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_neither_statistics_nor_charts_are_imported_and_both_work_when_touched():
    code = (
        "import sys\n"
        "from tasks.quality.great import great_expectations\n"
        "great_expectations()\n"
        "from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as module\n"
        "print([name for name in sys.modules if name.startswith(('scipy.stats', 'altair'))])\n"
        "print(float(module.stats.entropy([0.5, 0.5], [0.5, 0.5])), module.alt.Chart.__name__)\n"
        "import scipy.stats, altair\n"
        "print(scipy.stats.entropy is module.stats.entropy, altair.Chart is module.alt.Chart)\n"
    )
    assert run(code) == ["[]", "0.0", "Chart", "True", "True"]


def test_a_stand_in_is_gone_after_its_block_and_the_rest_is_imported_as_usual():
    code = (
        "import sys\n"
        "from tasks.quality.deferred import deferred\n"
        "with deferred('colorsys', 'email.mime', 'absent_module'):\n"
        "    import colorsys\n"
        "    from email import mime\n"
        "    kept = type(colorsys).__name__, type(mime).__name__\n"
        "    import email.mime.text\n"
        "print(*kept, 'colorsys' in sys.modules, colorsys.rgb_to_hsv(0, 0, 1)[2])\n"
        "import colorsys as again\n"
        "print(type(again).__name__, again.rgb_to_hsv is colorsys.rgb_to_hsv, mime.text is email.mime.text)\n"
    )
    assert run(code) == ["_Deferred", "_Deferred", "False", "1", "module", "True", "True"]


def test_a_module_that_is_there_already_is_left_alone():
    with deferred("json"):
        import json as within
    assert within is json
    assert sys.modules["json"] is json


def test_its_analytics_are_off_in_the_environment_and_in_a_context(monkeypatch):
    monkeypatch.delenv("GX_ANALYTICS_ENABLED", raising=False)
    great_expectations.cache_clear()  # as in a process that has not imported it yet
    assert new_context().config.analytics_enabled is False
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"


# SciPy and pandas touch what NumPy deprecates when the chart is drawn; none of it is ours.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_expectation_that_needs_both_is_validated_and_rendered(tmp_path):
    weights = {"values": ["a", "b"], "weights": [0.9, 0.1]}
    kind = {
        "type": "expect_column_kl_divergence_to_be_less_than",
        "kwargs": {"column": "id", "partition_object": weights, "threshold": 0.01},
    }
    path = tmp_path / "contract.json"
    path.write_text(json.dumps({"name": "s", "expectations": [kind]}))
    (verdict,) = validate([("k", pa.table({"id": ["a", "b"]}))], load_suite(path))
    assert "observed 0.5" in verdict.table_failures[0].message
    assert "Kullback-Leibler" in render_docs(verdict.results, title="t")
