"""Time is learnt from earlier runs: few give a simple rule, many tell fixed time, partitions and rows apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.domain.estimate import RECENT, Fit, Prices, Took, compared, estimated, fit

SIZES = [(1, 40), (2, 700), (5, 90), (3, 2_000), (9, 400), (1, 900), (7, 5_000), (12, 600), (4, 50), (6, 3_000)]
TRUE = Fit(fixed=2.0, per_partition=0.5, per_row=0.001)


def took(partitions: int, rows: int, *, rule: Fit = TRUE, computed: int | None = None, **changes) -> Took:
    computed = partitions if computed is None else computed
    seconds = rule.seconds(partitions, rows)
    return replace(Took(partitions, rows, computed, seconds * bool(computed), seconds, 2, "cpu"), **changes)


PAST = [took(*size) for size in SIZES]
WANTED = {"runs": 1, "partitions": 30, "computed": 30, "rows": 9_000, "prices": Prices()}


def test_ten_runs_of_different_sizes_give_back_the_rule_that_they_followed():
    found = fit(SIZES, [TRUE.seconds(*size) for size in SIZES])
    assert (found.fixed, found.per_partition, found.per_row) == pytest.approx((2.0, 0.5, 0.001))


def test_no_part_of_an_estimate_is_negative_where_longer_runs_took_less():
    found = fit(SIZES, [10 - 0.5 * partitions for partitions, _ in SIZES])
    assert min(found.fixed, found.per_partition, found.per_row) >= 0
    assert found.seconds(1, 40) > 0


def test_runs_of_one_size_are_followed_by_their_rows_and_no_run_gives_nothing():
    assert fit([(1, 40)] * 5, [2.0] * 5) == Fit(per_row=pytest.approx(0.05))
    assert fit([], []) == Fit()


def test_one_outlier_of_ten_does_not_carry_the_estimate_away():
    seconds = [TRUE.seconds(*size) for size in SIZES]
    seconds[4] *= 10
    assert fit(SIZES, seconds).seconds(8, 1_000) == pytest.approx(TRUE.seconds(8, 1_000), rel=0.25)


def test_both_steps_are_estimated_and_each_run_has_its_fixed_time():
    one = estimated(PAST, **WANTED)
    assert one.seconds == pytest.approx(2 * TRUE.seconds(30, 9_000), rel=1e-3)
    assert (one.learnt_from, one.smallest, one.largest) == (10, 1, 12)
    assert estimated(PAST, **WANTED | {"runs": 3}).seconds == pytest.approx(one.seconds + 2 * 2 * TRUE.fixed, rel=1e-3)


def test_features_that_are_there_take_no_time_and_teach_nothing_about_computing_them():
    there = estimated([*PAST, took(5, 90, computed=0)], **WANTED | {"computed": 0})
    assert there.seconds == pytest.approx(TRUE.seconds(30, 9_000), rel=1e-3)
    assert estimated([*PAST, took(5, 90, computed=0)], **WANTED).seconds == pytest.approx(2 * there.seconds, rel=1e-3)


def test_rows_that_nobody_counted_are_taken_from_the_earlier_runs():
    rows = round(30 * sum(rows for _, rows in SIZES) / sum(partitions for partitions, _ in SIZES))
    assert estimated(PAST, **WANTED | {"rows": None}) == estimated(PAST, **WANTED | {"rows": rows})


def test_only_the_last_runs_on_as_many_threads_and_the_same_device_count():
    slow = Fit(fixed=20.0, per_partition=5.0, per_row=0.01)
    other = [took(*size, rule=slow, threads=1) for size in SIZES]
    assert estimated([*other, *PAST], **WANTED) == estimated(PAST, **WANTED)
    old = [took(*size, rule=slow) for size in SIZES]
    assert estimated([*old, *(PAST * (RECENT // len(PAST)))], **WANTED).learnt_from == RECENT
    assert estimated([], **WANTED) is None


def test_cost_counts_threads_and_gpus_and_is_left_out_where_a_price_is():
    whole, score = 2 * TRUE.seconds(30, 9_000), TRUE.seconds(30, 9_000)
    cpu = estimated(PAST, **WANTED | {"prices": Prices(cpu_hour=36.0)})
    assert (cpu.gpu_minutes, cpu.cost) == (None, pytest.approx(whole * 2 / 100, rel=1e-3))
    assert estimated(PAST, **WANTED).cost is None
    on_gpu = [replace(one, device="cuda") for one in PAST]
    both = estimated(on_gpu, **WANTED | {"prices": Prices(cpu_hour=36.0, gpu_hour=360.0)})
    assert both.gpu_minutes == pytest.approx(score / 60, rel=1e-2)
    assert both.cost == pytest.approx(whole * 2 / 100 + score / 10, rel=1e-3)
    assert estimated(on_gpu, **WANTED | {"prices": Prices(cpu_hour=36.0)}).cost is None


def test_a_run_is_compared_with_what_the_runs_before_it_told_and_not_with_itself():
    runs = dict(enumerate([*PAST, took(8, 1_000, rule=Fit(per_row=1.0))]))
    found = compared(runs, {10})
    assert (found.runs, found.partitions, found.learnt_from, found.actual) == (1, 8, 10, 2_000.0)
    assert found.estimated == pytest.approx(2 * TRUE.seconds(8, 1_000), rel=1e-3)
    first = compared(runs, {0})
    assert (first.estimated, first.learnt_from) == (None, 0)
    assert compared(runs, set()) is None


def test_of_all_runs_each_but_the_first_is_compared_with_what_those_before_it_told():
    runs = dict(enumerate(PAST))
    found = compared(runs, set(runs))
    assert (found.runs, found.learnt_from) == (len(PAST) - 1, 1)
    assert found.partitions == sum(one.partitions for one in PAST[1:])
    alone = [compared(runs, {version}) for version in range(1, len(PAST))]
    assert found.estimated == pytest.approx(sum(one.estimated for one in alone), abs=0.01)
    assert found.actual == pytest.approx(sum(one.actual for one in alone), abs=0.01)
