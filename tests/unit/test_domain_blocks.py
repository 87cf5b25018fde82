"""Hours of a day hang together: the interval of their gain is the one of days."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.compute.metrics import paired_block_bootstrap
from tasks.domain.blocks import block_of, blocks
from tasks.domain.partition import Partition, span

NEW_YORK = "America/New_York"


class Hourly:
    """As much of a spec as names partitions."""

    def partition(self, key: str) -> Partition:
        return Partition.parse("hour", NEW_YORK, key)


def test_the_hours_of_a_local_day_are_one_block_also_on_a_day_of_twenty_five():
    day = span("hour", NEW_YORK, "2013-11-03T00-0400..2013-11-03T23-0500")
    assert len(day) == 25 and {block_of(hour) for hour in day} == {"2013-11-03"}
    assert block_of(day[0].previous()) == "2013-11-02" and block_of(day[-1].next()) == "2013-11-04"


@pytest.mark.parametrize(("grain", "key"), [("day", "2013-11-03"), ("week", "2013-11-04"), ("month", "2013-11")])
def test_a_partition_that_is_no_hour_is_its_own_block(grain: str, key: str):
    assert block_of(Partition.parse(grain, NEW_YORK, key)) == key


def test_a_gain_that_is_shared_by_the_hours_of_a_day_has_a_wider_interval_than_by_hours():
    random = np.random.default_rng(3)
    hours = [hour.key for hour in span("hour", NEW_YORK, "2013-06-01T00-0400..2013-06-28T23-0400")]
    keys = [key for key in hours for _ in range(5)]
    y = np.zeros(len(keys))
    # whose errors are smaller is drawn for each day, not for each hour
    luck = dict(zip(dict.fromkeys(key[:10] for key in hours), random.normal(0, 1, 28), strict=True))
    ours = np.array([1 - 0.1 * luck[key[:10]] for key in keys]) + random.normal(0, 0.01, len(keys))
    how = {"repeats": 500, "confidence": 0.95, "seed": 1}
    by_hour = paired_block_bootstrap("mae", y, ours, np.ones(len(keys)), np.array(keys), **how)
    by_day = paired_block_bootstrap("mae", y, ours, np.ones(len(keys)), np.array(blocks(Hourly(), keys)), **how)
    assert (by_hour.blocks, by_day.blocks, by_day.gain) == (28 * 24, 28, by_hour.gain)
    assert by_day.high - by_day.low > 3 * (by_hour.high - by_hour.low)
