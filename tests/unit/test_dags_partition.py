"""Which partition a run is for."""

from __future__ import annotations

import pytest
from millrace_airflow.partition import partition_of

from tasks.errors import PartitionKeyError

DAY = {"grain": "day", "timezone": "America/New_York"}


def test_the_partition_key_comes_before_the_conf():
    assert partition_of(**DAY, partition_key="2013-11-05", conf={"partition": "2013-11-06"}) == "2013-11-05"


def test_a_conf_names_a_partition_or_a_range():
    assert partition_of(**DAY, partition_key=None, conf={"partition": "2013-11-05"}) == "2013-11-05"
    span = {"from": "2013-11-05", "to": "2013-11-18"}
    assert partition_of(**DAY, partition_key=None, conf=span) == "2013-11-05..2013-11-18"
    assert (
        partition_of(**DAY, partition_key=None, conf={"partition": "2013-11-05..2013-11-18"})
        == "2013-11-05..2013-11-18"
    )


def test_empty_fields_of_the_trigger_form_are_no_values():
    form = {"partition": "", "from": "2013-11-05", "to": "2013-11-06", "force": False}
    assert partition_of(**DAY, partition_key=None, conf=form) == "2013-11-05..2013-11-06"


@pytest.mark.parametrize("conf", [None, {}, {"partition": None}, {"from": "2013-11-05"}, {"to": "2013-11-05"}])
def test_a_run_without_a_partition_is_refused_with_a_way_out(conf):
    with pytest.raises(PartitionKeyError, match="names no partition.*trigger it with"):
        partition_of(**DAY, partition_key=None, conf=conf)


@pytest.mark.parametrize(
    "conf",
    [
        {"partition": "2013-11"},
        {"partition": "2013-11-31"},
        {"partition": 20131105},
        {"partition": "2013-11-05.."} | {"partition": "..2013-11-05"},
        {"from": "2013-11-05", "to": "2013-W45"},
        {"partition": "2013-11-05; rm"},
    ],
)
def test_a_key_that_is_none_of_the_grain_is_refused(conf):
    with pytest.raises(PartitionKeyError, match="is no day partition in America/New_York"):
        partition_of(**DAY, partition_key=None, conf=conf)


def test_a_range_that_runs_backwards_is_refused():
    with pytest.raises(PartitionKeyError, match="ends before it starts"):
        partition_of(**DAY, partition_key=None, conf={"from": "2013-11-06", "to": "2013-11-05"})


def test_reference_data_needs_no_partition():
    assert partition_of(grain="none", timezone="UTC", partition_key=None, conf=None) == "all"


def test_doubled_hours_are_told_apart():
    hour = {"grain": "hour", "timezone": "America/New_York", "conf": None}
    for key in ("2013-11-03T01-0400", "2013-11-03T01-0500"):
        assert partition_of(**hour, partition_key=key) == key
    with pytest.raises(PartitionKeyError):
        partition_of(**hour, partition_key="2013-11-03T01-0600")
