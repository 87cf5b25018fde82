"""Training data as workers read it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.compute.encoding import fit_encoding
from tasks.compute.kept import KeptBatches
from tasks.compute.rows import (
    RowGroup,
    TrainingData,
    batch_rows,
    batches_of,
    deal,
    fit_encoding_files,
    read_rows,
    survey,
)
from tasks.errors import SpecError, TrainingError


def _groups(*rows: int) -> list[RowGroup]:
    return [RowGroup(f"{place}.parquet", 0, count) for place, count in enumerate(rows)]


def _file(folder: Path, name: str, row_group_size: int = 100, **columns) -> str:
    path = folder / name
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return str(path)


def test_groups_are_dealt_evenly_by_rows():
    hands = deal(_groups(900, 100, 100, 100, 300, 300), 2)
    assert [sum(group.rows for group in hand) for hand in hands] == [900, 900]


def test_dealing_is_the_same_each_time_and_loses_nothing():
    groups = _groups(*([900] * 20), 5, 1, 1)
    hands = deal(groups, 3)
    assert hands == deal(groups, 3)
    assert sorted((group for hand in hands for group in hand), key=lambda g: int(g.path[:-8])) == groups


def test_fewer_groups_than_workers_use_fewer_workers():
    assert len(deal(_groups(10, 20), 8)) == 2


def test_small_groups_are_joined_in_order_and_large_ones_stay_alone():
    batches = batches_of(_groups(400, 400, 400, 1500, 10), rows=1000)
    assert [[group.rows for group in batch] for batch in batches] == [[400, 400], [400], [1500], [10]]


def test_a_batch_holds_about_as_many_values_whatever_the_width():
    assert {batch_rows(width) * width for width in (1, 25, 1000)} == {25_000_000}
    assert batch_rows(10**9) == 1


def test_row_groups_skip_empty_files(tmp_path):
    files = (
        _file(tmp_path, "a.parquet", 2, x=[1, 2, 3], label=[0.0, 1, 0]),
        _file(tmp_path, "b.parquet", x=pa.array([], pa.int64()), label=pa.array([], pa.float64())),
        _file(tmp_path, "c.parquet", x=[4], label=[1.0]),
    )
    seen = survey(TrainingData(files), ["x"])
    groups = seen.groups
    assert (seen.rows, seen.low, seen.high, seen.empty) == (4, 0, 1, ())
    assert [(Path(group.path).name, group.index, group.rows) for group in groups] == [
        ("a.parquet", 0, 2),
        ("a.parquet", 1, 1),
        ("c.parquet", 0, 1),
    ]


def test_a_chunk_holds_its_groups_rows_in_order(tmp_path):
    data = TrainingData(
        (
            _file(tmp_path, "a.parquet", 2, x=[1, 2, 3], c=["u", "v", None], label=[0, 1, 0], partition_key=["k"] * 3),
            _file(tmp_path, "b.parquet", x=[4], c=["w"], label=[1], partition_key=["k"]),
        )
    )
    encoding = fit_encoding_files(data, ["x", "c"])
    matrix, label = read_rows(survey(data, ["x", "c"]).groups, data, encoding)
    np.testing.assert_array_equal(matrix, [[1, 0], [2, 1], [3, np.nan], [4, 2]])
    assert label.tolist() == [0, 1, 0, 1] and label.dtype == np.float32


def test_features_without_any_value_are_known_from_the_footers(tmp_path):
    data = TrainingData(
        (
            _file(tmp_path, "a.parquet", x=pa.nulls(2, pa.float64()), y=pa.nulls(2, pa.float64()), label=[0.0, 1]),
            _file(tmp_path, "b.parquet", x=pa.nulls(1, pa.float64()), y=[1.0], label=[1.0]),
        )
    )
    assert survey(data, ["x", "y"]).empty == ("x",)


def test_a_class_that_is_no_whole_number_is_refused_by_its_file(tmp_path):
    data = TrainingData((_file(tmp_path, "a.parquet", x=[1, 2, 3], label=[0.0, 0.5, 1]),))
    with pytest.raises(TrainingError, match=r"a\.parquet: a label is no whole number"):
        read_rows(survey(data, ["x"]).groups, data, fit_encoding_files(data, ["x"]), whole=True)


def test_a_missing_label_is_refused_by_its_file(tmp_path):
    data = TrainingData((_file(tmp_path, "a.parquet", x=[1, 2], label=[0.0, None]),))
    with pytest.raises(TrainingError, match=r"a\.parquet: a label is missing"):
        read_rows(survey(data, ["x"]).groups, data, fit_encoding_files(data, ["x"]))


def test_the_encoding_of_files_is_that_of_their_rows(tmp_path):
    parts = [{"x": [1.0, None], "c": ["b", None]}, {"x": [2.0], "c": ["a"]}, {"x": [3.0], "c": pa.nulls(1)}]
    data = TrainingData(
        tuple(_file(tmp_path, f"{n}.parquet", label=[0.0] * len(p["x"]), **p) for n, p in enumerate(parts))
    )
    assert fit_encoding_files(data, ["c", "x"]) == fit_encoding([pa.table(part) for part in parts], ["c", "x"])


def test_texts_are_the_same_whatever_the_row_groups_and_however_the_file_holds_them(tmp_path):
    texts = [["b", "a", None, "c"] * 5, pa.array(["c", None, "d"] * 4).dictionary_encode(), ["", "é"]]
    texts += [pa.array(["x", "b"], pa.large_string()), pa.array([None, None], pa.string())]
    files = [_file(tmp_path, f"{n}.parquet", 3, c=part, label=[0.0] * len(part)) for n, part in enumerate(texts)]
    data = TrainingData(tuple(files))
    encoding = fit_encoding_files(data, ["c"])
    assert encoding.categories["c"] == ("", "a", "b", "c", "d", "x", "é")
    matrix, _ = read_rows(survey(data, ["c"]).groups, data, encoding)
    expected = [text for part in texts for text in (part if isinstance(part, list) else part.to_pylist())]
    found = [None if np.isnan(code) else encoding.categories["c"][int(code)] for code in matrix[:, 0]]
    assert found == expected


def test_batches_are_read_once_and_mapped_as_often_as_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.compute.rows.BATCH_VALUES", 6)
    files = [_file(tmp_path, f"{n}.parquet", x=[float(n)] * 3, label=[n % 2] * 3) for n in range(4)]
    data = TrainingData(tuple(files))
    encoding, folder = fit_encoding_files(data, ["x"]), tmp_path / "kept"
    folder.mkdir()
    kept = KeptBatches(survey(data, ["x"]).groups, data, encoding, whole=True, folder=folder)
    for _ in range(2):
        matrices, labels = zip(*[kept[place] for place in range(len(kept))], strict=True)
        assert [matrix[:, 0].tolist() for matrix in matrices] == [[0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3]]
        assert [label.tolist() for label in labels] == [[0, 0, 0, 1, 1, 1]] * 2
    kept.close()
    assert not list(folder.iterdir())


def test_an_error_in_reading_ahead_comes_out_where_its_batch_is_asked_for(tmp_path):
    data = TrainingData((_file(tmp_path, "a.parquet", x=[1, 2], label=[0.0, 0.5]),))
    folder = tmp_path / "kept"
    folder.mkdir()
    with (
        closing(
            KeptBatches(survey(data, ["x"]).groups, data, fit_encoding_files(data, ["x"]), whole=True, folder=folder)
        ) as kept,
        pytest.raises(TrainingError, match="no whole number"),
    ):
        kept[0]
    assert not list(folder.iterdir())


def test_a_feature_that_no_file_has_is_refused_by_name(tmp_path):
    data = TrainingData((_file(tmp_path, "a.parquet", x=[1], label=[0.0]),))
    with pytest.raises(SpecError, match="feature 'y' is not in .*a.parquet, which has x, label"):
        fit_encoding_files(data, ["x", "y"])
