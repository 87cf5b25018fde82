"""Scoring in time: what was known, what came late, what is waited for; and that every row is accounted for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from tasks.errors import NotReadyError, PopulationError, RegistryError
from tasks.settings import load_pipeline
from tests.support.pipelines import deliver
from tests.support.project import Project, with_settings

DAY = "2024-02-03"
PREDICTIONS = "late_orders/predictions"


@pytest.fixture
def february(champion: Project) -> Project:
    """With the first days of February clean, none of them scored."""
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 5))
    champion.load({"orders": "2024-02-01..2024-02-05", "arrivals": "2024-02-01..2024-02-04"})
    return champion


def file(project: Project, source: str, day: str) -> str:
    return (project.incoming / source / f"{day}.csv").read_text()


def test_a_partition_before_the_first_champion_is_listed_and_not_scored(february: Project):
    result = february.run("score", "late_orders", "2024-02-01")
    assert [(one.key, one.reason) for one in result.skipped] == [("2024-02-01", "no champion")]
    assert february.version(PREDICTIONS) == -1


def test_days_outside_of_the_pipeline_are_told_so(february: Project):
    (skipped,) = february.run("pin", "late_orders", "2025-01-01").skipped
    assert skipped.reason == "outside of the pipeline's days 2024-01-01 to 2024-12-31"


def test_what_is_awaited_and_not_there_is_named(february: Project):
    with pytest.raises(NotReadyError) as caught:
        february.run("score", "late_orders", "2024-02-07")
    assert caught.value.missing == (
        "orders/2024-02-06",
        "orders/2024-02-07",
        "arrivals/2024-02-05",
        "arrivals/2024-02-06",
    )
    assert "millrace run ingest" in caught.value.hint
    # Of a range, what is ready is published, and the rest says what it waits for.
    result = february.run("pin", "late_orders", "2024-02-04..2024-02-07")
    assert [one.key for one in result.partitions] == ["2024-02-04", "2024-02-05"]
    assert result.skipped[0].reason == "waits for orders/2024-02-06, arrivals/2024-02-05"


def test_a_partition_declared_missing_is_not_waited_for(february: Project):
    source = february.settings.config / "sources" / "arrivals" / "source.yaml"
    source.write_text(source.read_text() + "missing: [2024-02-05]\n")
    deliver(february.incoming, date(2024, 2, 6), date(2024, 2, 6))
    february.load({"orders": "2024-02-06"})
    assert february.run("score", "late_orders", "2024-02-06").partitions[0].rows == 40


def test_what_was_declared_missing_and_comes_after_all_changes_nothing_that_was_published(february: Project):
    """Also as a file of a historical load, and with the time stamp that it had where it was copied from."""
    source = february.settings.config / "sources" / "arrivals" / "source.yaml"
    source.write_text(source.read_text() + "missing: [2024-02-05]\n")
    deliver(february.incoming, date(2024, 2, 6), date(2024, 2, 6))
    february.load({"orders": "2024-02-06"})
    february.run("score", "late_orders", "2024-02-06")
    before = february.rows(PREDICTIONS, ("2024-02-06",))
    file = february.incoming / "arrivals" / "2024-02-05.csv"
    february.write("arrivals/2024-02-05.csv", file.read_text(), arrived=datetime(2024, 2, 6, 0, 1, tzinfo=UTC))
    february.load({"arrivals": "2024-02-05"})
    assert february.entry("sources/arrivals/clean", "2024-02-05", 1).rows > 0
    february.run("score", "late_orders", "2024-02-06", force=True)
    assert february.rows(PREDICTIONS, ("2024-02-06",)) == before


def test_a_model_waits_for_all_that_its_own_view_reaches_back_to(champion: Project):
    spec = champion.settings.config / "pipelines" / "late_orders" / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("lookback: 3d", "lookback: 1d"))
    deliver(champion.incoming, date(2024, 2, 3), date(2024, 2, 4))
    champion.load({"orders": "2024-02-03..2024-02-04", "arrivals": "2024-02-03"})
    assert champion.run("pin", "late_orders", "2024-02-04").partitions
    with pytest.raises(NotReadyError) as caught:
        champion.run("score", "late_orders", "2024-02-04")
    assert "orders/2024-02-01" in caught.value.missing and champion.version(PREDICTIONS) == -1


def test_a_restatement_leaves_what_was_published_and_does_not_show_in_an_as_known_score(february: Project):
    february.run("score", "late_orders", "2024-02-03..2024-02-05")
    published = february.rows(PREDICTIONS)
    restated = "order_id,shop,amount\n" + "\n".join(f"20240203-{number:03},s1,1" for number in range(40)) + "\n"
    february.write(f"orders/{DAY}.csv", restated)
    landed = february.run("ingest", "orders", DAY).partitions[0]
    february.run("validate", "orders", DAY)
    first, second = (february.entry("sources/orders/clean", DAY, revision).meta for revision in (1, 2))
    assert (landed.revision, landed.status) == (2, "landed")
    assert first["known_at"] == "2024-02-02T23:00:00.000000Z"  # declared: six hours before the day in New York
    assert second["known_at"] > "2026"
    assert {row["amount"] for row in february.rows("sources/orders/clean", (DAY, 2))} == {1.0}

    again = february.run("score", "late_orders", "2024-02-03..2024-02-05")
    assert not again.partitions and february.rows(PREDICTIONS) == published
    february.run("score", "late_orders", "2024-02-03..2024-02-05", force=True)
    assert february.rows(PREDICTIONS) == published


def test_a_late_first_delivery_is_waited_for_used_and_named(champion: Project):
    """Decision 3: what was awaited and came late is visible, and the provenance says so."""
    for source in ("orders", "arrivals"):
        spec = champion.settings.config / "sources" / source / "source.yaml"
        spec.write_text(spec.read_text().replace("history: 2025-01-01", "history: 2024-02-02"))
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 3))
    in_time, late = datetime(2024, 2, 1, 20, tzinfo=UTC), datetime(2024, 2, 3, 9, 30, tzinfo=UTC)
    champion.write("orders/2024-02-02.csv", file(champion, "orders", "2024-02-02"), arrived=in_time)
    champion.write("arrivals/2024-02-02.csv", file(champion, "arrivals", "2024-02-02"), arrived=in_time)
    champion.load({"orders": "2024-02-01..2024-02-02", "arrivals": "2024-02-01..2024-02-02"})
    with pytest.raises(NotReadyError) as caught:
        champion.run("score", "late_orders", DAY)
    assert caught.value.missing == (f"orders/{DAY}",)

    champion.write(f"orders/{DAY}.csv", file(champion, "orders", DAY), arrived=late)
    champion.load({"orders": DAY})
    assert champion.run("score", "late_orders", DAY).partitions[0].rows == 40
    known = {key: champion.entry("sources/orders/clean", key, 1).meta["known_at"] for key in ("2024-02-02", DAY)}
    # Live: the later of the declared moment and the arrival.
    assert known == {"2024-02-02": "2024-02-01T23:00:00.000000Z", DAY: "2024-02-03T09:30:00.000000Z"}
    view = champion.entry(PREDICTIONS, DAY).meta["view"]
    for table in (PREDICTIONS, f"late_orders/features/{view}"):
        assert champion.entry(table, DAY).meta["late"] == [f"orders/{DAY}"]


def test_a_manifest_says_when_history_was_known(champion: Project):
    spec = champion.settings.config / "sources" / "orders" / "source.yaml"
    spec.write_text(spec.read_text() + 'manifest: "{landing}/known.json"\n')
    champion.write("known.json", '{"2024-02-02": "2024-02-02T01:00:00Z"}')
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 2))
    landed = champion.run("ingest", "orders", "2024-02-01..2024-02-02").partitions
    assert [one.known_at for one in landed] == ["2024-01-31T23:00:00.000000Z", "2024-02-02T01:00:00.000000Z"]


def test_a_partition_whose_as_of_is_to_come_is_left_for_then(february: Project):
    """Until its as_of more may become known, which an as-of backfill would see and the early run not."""
    from tasks.pin import pin

    spec = load_pipeline(february.settings.config, "late_orders")
    as_of = spec.as_of.at(spec.partition(DAY))
    early = pin(spec=spec, partitions=[spec.partition(DAY)], lake=february.lake, now=as_of - timedelta(seconds=1))
    assert [one.reason for one in early.skipped] == ["its as_of 2024-02-03T09:00:00.000000Z is still to come"]
    assert pin(spec=spec, partitions=[spec.partition(DAY)], lake=february.lake, now=as_of).partitions


def test_a_champion_is_scored_at_its_own_cut_where_the_specs_came_earlier(february: Project):
    """Features at another cut than the one the model was trained with would be others; before it they'd be guesses."""
    from tasks.pin import pin

    file = february.settings.config / "pipelines" / "late_orders" / "pipeline.yaml"
    file.write_text(file.read_text().replace("as_of: start+4h", "as_of: start+1h"))
    spec = load_pipeline(february.settings.config, "late_orders")
    as_of = spec.as_of.at(spec.partition(DAY))
    early = pin(spec=spec, partitions=[spec.partition(DAY)], lake=february.lake, now=as_of + timedelta(hours=2))
    assert [one.reason for one in early.skipped] == [
        "the as_of 2024-02-03T09:00:00.000000Z of version 1 is still to come"
    ]
    february.run("score", "late_orders", DAY)
    meta = february.entry(PREDICTIONS, DAY).meta
    assert (meta["as_of"], meta["cut"]) == ("2024-02-03T06:00:00.000000Z", "2024-02-03T09:00:00.000000Z")


def test_a_delivery_without_rows_is_published_as_an_empty_partition(february: Project):
    deliver(february.incoming, date(2024, 2, 6), date(2024, 2, 6))
    february.write("orders/2024-02-06.csv", "order_id,shop,amount\n")
    february.write("arrivals/2024-02-05.csv", file(february, "arrivals", "2024-02-04"))
    february.load({"orders": "2024-02-06", "arrivals": "2024-02-05"})
    (scored,) = february.run("score", "late_orders", "2024-02-06").partitions
    assert (scored.driving, scored.rows, scored.status) == (0, 0, "published")
    assert february.run("score", "late_orders", "2024-02-06").skipped[0].reason.startswith("published")


def test_quarantined_rows_are_part_of_the_sum(february: Project):
    lines = file(february, "orders", "2024-02-05").replace("20240205", "20240206") + "x-1,s1,5000\n"
    february.write("orders/2024-02-06.csv", lines)
    february.write("arrivals/2024-02-05.csv", file(february, "arrivals", "2024-02-04"))
    february.load({"orders": "2024-02-06", "arrivals": "2024-02-05"})
    (scored,) = february.run("score", "late_orders", "2024-02-06").partitions
    assert (scored.driving, scored.rows, scored.quarantined, scored.filtered) == (41, 40, 1, 0)


def test_a_row_that_is_not_accounted_for_publishes_nothing(february: Project):
    pin = february.run("pin", "late_orders", DAY)
    features = february.run("featurize", "late_orders", DAY, given={"pin": pin})
    # The features of another day under this day's name: counts and rows no longer fit.
    table = february.table(next(iter(features.versions)))
    entry = table.entries()[DAY,]
    from tasks.lake import Entry

    rows = table.read(version=table.version(), keys=[(DAY,)]).slice(0, 39)
    from tasks.domain.run import RunRef

    version = table.replace(
        pinned=table.version(),
        columns=rows.schema,
        partition_by=("partition_key",),
        data=rows,
        entries=[Entry((DAY,), 39, entry.meta)],
        run=RunRef("by hand"),
    )
    tampered = type(features).from_dict(features.to_dict() | {"versions": {table.name: version}})
    with pytest.raises(PopulationError, match="40 rows of orders came in, 39 scored"):
        february.run("score", "late_orders", DAY, given={"pin": pin, "featurize": tampered})
    assert february.version(PREDICTIONS) == -1


def with_reasons(project: Project, count: int) -> None:
    spec = project.settings.config / "pipelines" / "late_orders" / "pipeline.yaml"
    kept = [line for line in spec.read_text().splitlines() if not line.startswith("score:")]
    spec.write_text("\n".join([*kept, f"score: {{reasons: {count}}}"]) + "\n")


def test_reasons_are_a_column_from_the_day_on_that_the_spec_asks_for_them(february: Project):
    february.run("score", "late_orders", "2024-02-03")
    before = february.rows(PREDICTIONS)
    assert all("reasons" not in row for row in before)
    with_reasons(february, 1)
    february.run("score", "late_orders", "2024-02-04")
    assert all(row.pop("reasons") is None for row in february.rows(PREDICTIONS, ("2024-02-03",)))
    rows = february.rows(PREDICTIONS, ("2024-02-04",))
    view = february.entry(PREDICTIONS, "2024-02-04").meta["view"]
    given = {row["order_id"]: row for row in february.rows(f"late_orders/features/{view}", ("2024-02-04",))}
    assert len(rows) == 40
    for row in rows:
        (reason,) = row["reasons"]
        value = given[row["order_id"]][reason["feature"]]
        assert float(reason["value"]) == value and reason["contribution"]
    february.run("score", "late_orders", "2024-02-04", force=True)
    assert february.rows(PREDICTIONS, ("2024-02-04",)) == rows
    with_reasons(february, 0)
    february.run("score", "late_orders", "2024-02-05")
    assert all(row["reasons"] is None for row in february.rows(PREDICTIONS, ("2024-02-05",)))


def test_predictions_do_not_depend_on_the_rows_that_are_scored_at_a_time(february: Project):
    days = "2024-02-02..2024-02-05"
    february.run("score", "late_orders", days)
    table = february.table(PREDICTIONS)
    whole = table.read(version=table.version())
    with_settings(february, score_batch_rows=7).run("score", "late_orders", days, force=True)
    assert table.read(version=table.version()).equals(whole)
    for key in ("2024-02-02", "2024-02-05"):
        ids = table.read(version=table.version(), keys=[(key,)])["order_id"].to_pylist()
        assert len(ids) == 40 and ids == sorted(ids)


def test_scoring_goes_on_while_mlflow_is_down_and_training_stops(february: Project):
    down = with_settings(february, mlflow="http://127.0.0.1:9")
    assert down.run("score", "late_orders", DAY).partitions[0].status == "published"
    deliver(down.incoming, date(2024, 2, 5), date(2024, 2, 29))
    down.load({"orders": "2024-02-06..2024-02-29", "arrivals": "2024-02-05..2024-02-29"})
    deliver(down.incoming, date(2024, 3, 1), date(2024, 3, 1))
    down.load({"orders": "2024-03-01"})
    objects = down.objects()
    with pytest.raises(RegistryError, match="does not answer"):
        down.run("promote", "late_orders", "2024-03")
    assert {key for key in down.objects() if "/features/" not in key} == {
        key for key in objects if "/features/" not in key
    }
