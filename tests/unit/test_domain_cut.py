"""What a knowledge cut shows, by declared times and recorded deliveries."""

from datetime import UTC, datetime, timedelta

from tasks.domain.cut import (
    Delivery,
    absences,
    corrected,
    deliveries_of,
    driving_keys,
    label_keys,
    matured,
    restated,
    thin,
    visible,
    visible_labels,
    visible_sources,
)
from tasks.domain.partition import Partition, iso
from tasks.domain.source import LateSpec
from tasks.domain.spec import LabelSpec
from tests.support.specs import pipeline, source

SPEC = pipeline()
DAY = SPEC.partition("2013-01-10")
AS_OF = SPEC.as_of.at(DAY)
TRUTH = SPEC.sources["truth"].source
ROWS = SPEC.sources["rows"].source
HOUR = timedelta(hours=1)


def declared(one, key: str) -> datetime:
    return one.declared(one.partition(key))


def on_time(one, *keys: str) -> dict[str, tuple[Delivery, ...]]:
    return {key: (Delivery(1, declared(one, key)),) for key in keys}


HISTORY = ("2013-01-05", "2013-01-06", "2013-01-07", "2013-01-08", "2013-01-09")


def test_history_ends_where_the_declared_moments_pass_the_cut():
    # truth of a day is known at 03:00 of the next, the cut is at 04:00
    seen = visible(SPEC, TRUTH, DAY, on_time(TRUTH, *HISTORY, "2013-01-10"))
    assert seen.revisions == tuple((key, 1) for key in HISTORY)
    assert seen.missing == seen.late == ()


def test_the_lookback_ends_the_history():
    seen = visible(SPEC, TRUTH, DAY, on_time(TRUTH, "2013-01-03", "2013-01-04", *HISTORY))
    assert seen.revisions[0] == ("2013-01-05", 1)


def test_the_driving_partition_is_known_before_it_begins():
    seen = visible(SPEC, ROWS, DAY, on_time(ROWS, *HISTORY, "2013-01-10", "2013-01-11"))
    assert seen.revisions[-1] == ("2013-01-10", 1)


def test_of_several_revisions_the_newest_known_by_then_is_shown():
    first = declared(TRUTH, "2013-01-09")
    known = {"2013-01-09": (Delivery(1, first), Delivery(2, AS_OF), Delivery(3, AS_OF + HOUR))}
    assert dict(visible(SPEC, TRUTH, DAY, known).revisions)["2013-01-09"] == 2


def test_a_late_first_delivery_of_an_awaited_partition_is_shown_with_its_first_revision():
    known = {"2013-01-09": (Delivery(1, AS_OF + HOUR), Delivery(2, AS_OF + 2 * HOUR))}
    seen = visible(SPEC, TRUTH, DAY, known)
    assert ("2013-01-09", 1) in seen.revisions
    assert seen.late == ("2013-01-09",)


def test_a_delivery_that_is_not_awaited_is_shown_only_when_it_was_known():
    early = {"2013-01-10": (Delivery(1, AS_OF - HOUR),)}
    after = {"2013-01-10": (Delivery(1, AS_OF + HOUR),)}
    assert ("2013-01-10", 1) in visible(SPEC, TRUTH, DAY, early).revisions
    assert visible(SPEC, TRUTH, DAY, after).revisions == ()


def test_awaited_partitions_without_a_delivery_are_missing():
    seen = visible(SPEC, TRUTH, DAY, on_time(TRUTH, *HISTORY[:-1]))
    assert seen.missing == ("2013-01-09",)


def test_a_partition_declared_missing_is_not_waited_for():
    truth = source("truth", available="end+3h", missing=["2013-01-09"])
    spec = pipeline({"rows": source("rows", available="start-6h"), "truth": truth})
    assert visible(spec, truth, DAY, on_time(truth, *HISTORY[:-1])).missing == ()


def test_nothing_is_awaited_before_the_first_delivery():
    first = SPEC.partition("2013-01-02")
    seen = visible(SPEC, TRUTH, first, {})
    assert seen.missing == ("2013-01-01",)
    assert thin(SPEC, first) and not thin(SPEC, SPEC.partition("2013-01-06"))


def test_nothing_is_awaited_after_the_last_delivery():
    truth = source("truth", available="end+3h", end="2013-01-07")
    spec = pipeline({"rows": source("rows", available="start-6h"), "truth": truth})
    assert visible(spec, truth, DAY, {}).missing == HISTORY[:3]


def test_reference_data_shows_its_newest_revision_known_by_then():
    planes = source("planes", grain="none", uri="{landing}/planes.csv")
    beginning = datetime(1900, 1, 1, tzinfo=UTC)
    known = {"all": (Delivery(1, beginning), Delivery(2, AS_OF + HOUR))}
    assert visible(SPEC, planes, DAY, known).revisions == (("all", 1),)
    assert visible(SPEC, planes, DAY, {}).missing == ("all",)
    assert visible(SPEC, planes, DAY, {"all": (Delivery(1, AS_OF + HOUR),)}).late == ("all",)


def test_deliveries_known_far_ahead_are_shown_across_the_turn_of_a_year():
    calendar = source("calendar", available="start-60d")
    known = {f"2014-01-{day:02d}": (Delivery(1, AS_OF),) for day in range(1, 32)}
    spec = pipeline({"rows": source("rows", available="start-6h"), "truth": TRUTH, "calendar": calendar})
    shown = visible(spec, calendar, spec.partition("2013-12-30"), known).revisions
    assert shown[-1] == ("2014-01-31", 1)


def test_sources_of_other_grains_and_zones_are_cut_by_their_own_bounds():
    weeks = source("weeks", grain="week", timezone="Asia/Kolkata", available="end+2h")
    seen = visible(SPEC, weeks, DAY, {})
    # the week of 2012-12-31 reaches into the lookback; that of 2013-01-07 has not ended
    assert seen.missing == ("2012-12-31",)
    hours = source("hours", grain="hour", available="end+10m")
    last = visible(SPEC, hours, DAY, {}).missing[-1]
    assert last == "2013-01-10T02-0500"


def test_all_sources_are_cut_at_once():
    shown = visible_sources(SPEC, DAY, {"truth": on_time(TRUTH, *HISTORY)})
    assert shown["truth"] == visible(SPEC, TRUTH, DAY, on_time(TRUTH, *HISTORY))
    assert shown["rows"].revisions == ()


def test_deliveries_are_gathered_from_commits_in_the_order_of_revisions():
    entries = [("b", 2, iso(AS_OF + HOUR), False), ("a", 1, iso(AS_OF), True), ("b", 1, iso(AS_OF), False)]
    assert deliveries_of(entries) == {
        "a": (Delivery(1, AS_OF, True),),
        "b": (Delivery(1, AS_OF), Delivery(2, AS_OF + HOUR)),
    }


def test_labels_mature_when_their_source_is_known_and_the_wait_is_over():
    spec = pipeline(label=LabelSpec(sql="x > 1", source="truth", matures="2d"))
    known = declared(TRUTH, "2013-01-10")
    assert not matured(SPEC, DAY, known - HOUR) and matured(SPEC, DAY, known)
    assert not matured(spec, DAY, known + 47 * HOUR) and matured(spec, DAY, known + 48 * HOUR)


def test_labels_beyond_the_last_delivery_never_mature():
    truth = source("truth", available="end+3h", end="2013-01-07")
    spec = pipeline({"rows": source("rows", available="start-6h"), "truth": truth})
    assert not matured(spec, DAY, datetime(2030, 1, 1, tzinfo=UTC))


def test_labels_of_a_training_are_those_known_at_its_cut():
    first, last = SPEC.partition("2013-01-08"), SPEC.partition("2013-01-09")
    known = on_time(TRUTH, *HISTORY, "2013-01-10")
    known["2013-01-08"] += (Delivery(2, AS_OF + HOUR),)
    shown = visible_labels(SPEC, first, last, AS_OF, known)
    assert shown.revisions == (("2013-01-08", 1), ("2013-01-09", 1))
    later = visible_labels(SPEC, first, last, AS_OF + HOUR, known)
    assert later.revisions == (("2013-01-08", 2), ("2013-01-09", 1))


def test_partitions_of_other_grains_hold_a_pipelines_rows_and_labels():
    spec = pipeline(grain="hour", as_of="start+4h", deadline="end+5h")
    hour = spec.partition("2013-11-03T01-0500")
    assert driving_keys(spec, hour) == label_keys(spec, hour) == ("2013-11-03",)
    utc_days = source("truth", available="end+3h", timezone="UTC")
    spec = pipeline({"rows": source("rows", available="start-6h"), "truth": utc_days})
    assert label_keys(spec, DAY) == ("2013-01-10", "2013-01-11")
    assert driving_keys(spec, DAY) == ("2013-01-10",)
    assert Partition.parse("day", "UTC", "2013-01-11").start < DAY.end


def test_what_was_declared_missing_and_comes_after_the_cut_stays_unseen():
    gone = source("truth", available="end+3h", missing=["2013-01-08"])
    spec = pipeline({"rows": source("rows", available="start-6h"), "truth": gone})
    known = on_time(gone, "2013-01-07", "2013-01-09")
    before = visible(spec, gone, DAY, known)
    known["2013-01-08"] = (Delivery(1, spec.as_of.at(DAY) + 30 * HOUR),)
    assert visible(spec, gone, DAY, known) == before


def test_a_weekly_source_that_ends_in_mid_week_still_has_that_week():
    weeks = source("rows", grain="week", available="start-8d", time="seen", end="2013-06-12")
    spec = pipeline({"rows": weeks, "truth": source("truth", available="end+3h")})
    assert driving_keys(spec, spec.partition("2013-06-11")) == ("2013-06-10",)


def test_cuts_that_show_the_same_delivery_share_its_pair():
    # a year of hours holds some millions of pairs: memory is bounded by the deliveries, not by their readers
    known = on_time(TRUTH, *HISTORY)
    one, next_one = (visible(SPEC, TRUTH, SPEC.partition(key), known) for key in ("2013-01-09", "2013-01-10"))
    assert one.revisions[-1] == ("2013-01-08", 1)
    assert any(pair is one.revisions[-1] for pair in next_one.revisions)


def test_corrected_deliveries_show_the_newest_revision_of_what_may_be_known_and_of_nothing_else():
    known = on_time(TRUTH, *HISTORY, "2013-01-10")
    known["2013-01-09"] += (Delivery(2, AS_OF + HOUR), Delivery(3, AS_OF + 9 * HOUR))
    known["2013-01-10"] += (Delivery(2, AS_OF + 99 * HOUR),)
    was = {"truth": visible(SPEC, TRUTH, DAY, known)}
    now = {"truth": visible(SPEC, TRUTH, DAY, corrected(SPEC, {"truth": known})["truth"])}
    assert was["truth"].revisions[-1] == ("2013-01-09", 1)
    assert now["truth"].revisions[-1] == ("2013-01-09", 3)
    assert len(now["truth"].revisions) == len(HISTORY)
    assert restated(was, now) == ("truth/2013-01-09@3",)
    assert restated(was, was) == ()


def test_corrected_deliveries_came_in_time():
    late = on_time(TRUTH, *HISTORY) | {"2013-01-09": (Delivery(1, AS_OF + 9 * HOUR),)}
    assert corrected(SPEC, {"truth": late})["truth"]["2013-01-09"] == (Delivery(1, declared(TRUTH, "2013-01-09")),)


def test_an_absence_ends_the_waiting_until_the_delivery_comes_after_all():
    given_up = declared(TRUTH, "2013-01-09") + HOUR
    late = on_time(TRUTH, *HISTORY) | {"2013-01-09": (Delivery(1, given_up, absent=True),)}
    seen = visible(SPEC, TRUTH, DAY, late)
    assert (seen.missing, seen.late, seen.absent) == ((), (), ("2013-01-09",))
    assert seen.revisions[-1] == ("2013-01-09", 1)
    late["2013-01-09"] += (Delivery(2, AS_OF + 9 * HOUR),)
    assert visible(SPEC, TRUTH, DAY, late) == seen  # it was not known at this cut
    after = visible(SPEC, TRUTH, DAY.next(), late)
    assert after.absent == () and ("2013-01-09", 2) in after.revisions
    now = corrected(SPEC, {"truth": late})["truth"]
    assert visible(SPEC, TRUTH, DAY, now).absent == ()


def test_the_first_that_waited_is_left_out_and_those_that_look_back_go_without():
    truth = TRUTH.model_copy(update={"late": LateSpec(policy="skip", until="end+6h")})
    spec = pipeline({"rows": ROWS, "truth": truth})
    known = {"truth": on_time(truth, *HISTORY) | {"2013-01-09": (Delivery(1, AS_OF, absent=True),)}}
    known["rows"] = on_time(ROWS, *HISTORY, "2013-01-10", "2013-01-11")
    seen = visible_sources(spec, DAY, known)
    assert absences(spec, DAY, seen) == (("truth/2013-01-09",), ())
    after = DAY.next()
    assert absences(spec, after, visible_sources(spec, after, known)) == ((), ("truth/2013-01-09",))


def test_a_day_whose_own_rows_did_not_come_is_left_out():
    rows = ROWS.model_copy(update={"late": LateSpec(policy="skip", until="end+6h")})
    spec = pipeline({"rows": rows, "truth": TRUTH})
    known = {"rows": on_time(rows, *HISTORY) | {"2013-01-10": (Delivery(1, AS_OF, absent=True),)}}
    assert absences(spec, DAY, visible_sources(spec, DAY, known)) == (("rows/2013-01-10",), ())
