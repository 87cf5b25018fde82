"""What is seen of each file alone, put together, is what is seen of all files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.compute.looks import look_at, together
from tasks.compute.rows import TrainingData, fit_encoding_files, read_rows, survey
from tasks.errors import SpecError, TrainingError

_TEXTS = st.sampled_from([None, "a", "b", "é", ""])
_NUMBERS = st.one_of(st.none(), st.integers(-3, 3))
_PARTS = st.lists(st.lists(st.tuples(_NUMBERS, _TEXTS, st.integers(0, 3)), min_size=1, max_size=9), min_size=1)


def _write(folder: Path, parts: list[list[tuple]]) -> tuple[str, ...]:
    files = []
    for number, rows in enumerate(parts):
        columns = [list(column) for column in zip(*rows, strict=True)]
        # a column of a part without any value may have no type at all
        typed = [pa.array(columns[0]), pa.array(columns[1]), pa.array(columns[2], pa.float32())]
        files.append(str(folder / f"{number}.parquet"))
        pq.write_table(pa.table(typed, names=["x", "c", "label"]), files[-1], row_group_size=4)
    return tuple(files)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(_PARTS)
def test_each_file_looked_at_alone_says_what_all_files_say(tmp_path: Path, parts):
    files, names = _write(tmp_path, parts), ("x", "c")
    encoding, seen = together([look_at(file, names) for file in files], names)
    assert encoding == fit_encoding_files(TrainingData(files), names)
    assert seen == survey(TrainingData(files), names)


def test_a_look_goes_with_its_file_to_another_place(tmp_path: Path):
    (file,) = _write(tmp_path, [[(1, "a", 0)]])
    assert [group.path for group in look_at(file, ("x",)).at("rows/0.parquet").survey.groups] == ["rows/0.parquet"]


def test_text_in_one_file_and_numbers_in_another_are_refused(tmp_path: Path):
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    for file, values in zip(files, (["1"], [1]), strict=True):
        pq.write_table(pa.table({"x": values, "label": [1.0]}), file)
    with pytest.raises(SpecError, match=r"'x' is text in one part of the data and a number in another: .*b\.parquet"):
        together([look_at(file, ("x",)) for file in files], ("x",))


def test_no_file_is_no_training_data():
    with pytest.raises(TrainingError, match="no rows"):
        together([], ("x",))


def test_labels_that_each_file_numbers_in_its_own_way_are_read_as_the_same_classes(tmp_path: Path):
    files = _write(tmp_path, [[(1, None, 0), (2, None, 1)], [(3, None, 0)], [(4, None, 1), (5, None, 0)]])
    data = TrainingData(files, codes=((0, 2), (1,), (1, 2)))
    matrix, label = read_rows(survey(data, ["x"]).groups, data, fit_encoding_files(data, ["x"]), whole=True)
    np.testing.assert_array_equal(matrix[:, 0], [1, 2, 3, 4, 5])
    assert label.tolist() == [0, 2, 1, 2, 1]
