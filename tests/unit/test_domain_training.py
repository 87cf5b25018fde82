"""Training windows: matured labels only, the latest held out, never too little."""

from datetime import UTC, datetime

import pytest

from tasks.domain.spec import LabelSpec
from tasks.domain.training import training_window
from tasks.errors import TrainingError
from tests.support.specs import pipeline, source


def window(training: str, **changes):
    spec = pipeline(**changes)
    found = training_window(spec, spec.training(training))
    return [found.train[0].key, found.train[1].key, found.holdout[0].key, found.holdout[1].key]


def test_the_latest_matured_partitions_are_held_out():
    # on 2013-03-01 at 04:00, the outcomes of 02-28 have been known for an hour
    assert window("2013-03") == ["2013-01-01", "2013-02-21", "2013-02-22", "2013-02-28"]


def test_labels_that_may_still_change_are_not_used():
    label = LabelSpec(sql="x > 1", source="truth", matures="2d")
    assert window("2013-03", label=label)[-1] == "2013-02-26"


def test_a_window_bounds_the_training_data():
    assert window("2013-06", train={"window": "30d"})[:2] == ["2013-04-25", "2013-05-24"]


def test_a_training_after_the_end_uses_the_last_partitions():
    assert window("2014-06", end="2013-12-31")[-1] == "2013-12-31"


def test_the_cut_of_a_training_is_that_of_its_first_partition():
    spec = pipeline()
    found = training_window(spec, spec.training("2013-03"))
    assert found.as_of == datetime(2013, 3, 1, 9, tzinfo=UTC)
    assert len(found.train_partitions) == 52 and len(found.holdout_partitions) == 7


def test_an_hourly_pipeline_holds_out_hours():
    sources = {
        "rows": source("rows", grain="hour", available="start-6h"),
        "truth": source("truth", grain="hour", available="end+10m"),
    }
    train = {"min_window": "14d", "holdout": "6h"}
    found = window("2013-03", sources=sources, grain="hour", as_of="start-1h", deadline="start", train=train)
    # cut at 23:00 of 02-28: the hour that ended at 22:00 is known since 22:10
    assert found == ["2013-01-01T00-0500", "2013-02-28T15-0500", "2013-02-28T16-0500", "2013-02-28T21-0500"]


def test_a_holdout_shorter_than_the_grain_is_one_partition():
    assert window("2013-03", train={"holdout": "6h"})[2:] == ["2013-02-28", "2013-02-28"]


def test_too_little_data_is_refused_with_a_way_out():
    with pytest.raises(TrainingError, match="less than min_window 30d, before its holdout of 7d") as caught:
        window("2013-02", train={"min_window": "30d"})
    assert "train a later month" in caught.value.hint
    assert window("2013-02", train={"min_window": "24d"})[:2] == ["2013-01-01", "2013-01-24"]


def test_a_training_before_any_label_is_refused():
    with pytest.raises(TrainingError, match="no label has matured at 2013-01-01 09:00 UTC"):
        window("2013-01")


def test_no_training_on_nothing_even_where_no_least_window_is_asked_for():
    with pytest.raises(TrainingError):
        window("2013-01-08", train={"every": "day", "min_window": "0d", "holdout": "7d"})
    assert window("2013-01-09", train={"every": "day", "min_window": "0d", "holdout": "7d"})[:2] == ["2013-01-01"] * 2
