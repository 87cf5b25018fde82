"""The benchmarks' flights are the same everywhere, and what the report says follows from what was measured."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.flights import FEATURES, TEXTS, flights, one_day
from benchmarks.measure import Figure, Part, ratios

DAY = date(2014, 3, 5)


def test_a_day_depends_on_seed_date_and_copies_alone():
    alone = one_day(1, DAY, 2)
    one_day(7, date(2015, 1, 1), 3)
    assert one_day(1, DAY, 2).equals(alone)
    assert not one_day(2, DAY, 2).equals(alone) and not one_day(1, date(2014, 3, 12), 2).equals(alone)


def test_a_days_rows_are_real_flights_of_their_own_names_with_their_gaps():
    table = one_day(1, DAY, 4)
    assert table.column_names == ["flight_id", *FEATURES, "label"]
    assert 4 * 600 < len(table) < 4 * 1100 and len(table["flight_id"].unique()) == len(table)
    assert set(table["weekday"].to_pylist()) == {3.0} and set(table["month"].to_pylist()) == {3.0}
    assert set(table["origin"].to_pylist()) == {"EWR", "JFK", "LGA"}
    assert 0 < table["manufacturer"].null_count < len(table) and table["wind_gust"].null_count > 0
    assert table["label"].null_count == 0 and set(table["label"].to_pylist()) == {0.0, 1.0}
    # the copies are the same flights with their times moved by a few minutes
    count = len(table) // 4
    first, second = (table["departure_minute"].to_numpy()[part : part + count] for part in (0, count))
    moved = np.abs((first - second + 720) % 1440 - 720)  # over midnight too
    assert 0 < moved.max() <= 14
    assert all(pa.types.is_string(table.schema.field(name).type) for name in TEXTS)


def test_more_rows_begin_with_the_fewer(tmp_path: Path):
    few = flights(tmp_path / "a", 20_000, size=10_000)
    many = flights(tmp_path / "b", 40_000, size=10_000)
    assert [pq.read_metadata(file).num_rows for file in many] == [10_000] * 4
    assert [file.read_bytes() for file in few] == [file.read_bytes() for file in many[:2]]
    written = many[0].stat().st_mtime_ns
    assert flights(tmp_path / "b", 40_000, size=10_000) == many and many[0].stat().st_mtime_ns == written


def test_a_figure_is_met_by_its_median():
    assert Figure("w", "a", "≤ 1.1", (1.0, 1.05, 9.0), most=1.1).met
    assert not Figure("w", "a", "≥ 5", (1.0, 4.0, 9.0), least=5).met
    assert Figure("w", "a", "", (1.0,)).met is None
    assert ratios((2.0, 9.0), (1.0, 3.0)) == (2.0, 3.0)


def test_the_table_is_written_between_its_marks_and_nothing_else_changes(tmp_path: Path, monkeypatch):
    results = tmp_path / "RESULTS.md"
    results.write_text(f"# Benchmarks\n\nbefore\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    monkeypatch.setattr(report, "RESULTS", results)
    monkeypatch.setattr(report, "MEASURED", tmp_path / "measured")
    part = Part(
        (Figure("what", "that", "≤ 1 ×", (2.0, 0.5, 3.0), " ×", most=1.0),), {"ours": {"s": [1.0, 2.0]}}, ("so",)
    )
    report.keep("training", part, seconds=12.3)
    report.write(("training", "scoring"))
    text = results.read_text()
    assert text.startswith("# Benchmarks\n\nbefore\n\n") and text.endswith("\n\nafter\n") and "old" not in text
    assert "| what | that | ≤ 1 × | 2 × (0.5 to 3) | 3 | **no** |" in text and "scoring" not in text
    assert "| ours | 1.5 (1 to 2) |" in text and "- so." in text
    kept = json.loads((tmp_path / "measured" / "training.json").read_text())
    assert Part.from_dict(kept["part"]).figures == part.figures


def test_what_stands_in_the_results_is_what_was_measured(tmp_path: Path, monkeypatch):
    written = report.RESULTS.read_text()
    copy = tmp_path / "RESULTS.md"
    copy.write_text(written)
    monkeypatch.setattr(report, "RESULTS", copy)
    from benchmarks.__main__ import PARTS

    report.write((*PARTS, report.GPU))
    assert copy.read_text() == written
