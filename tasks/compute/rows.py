"""Training rows in Parquet files: what the footers say of them, how they are dealt out, how they are read.

`read_rows` runs in the processes that train; everything before it reads footers only.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.compute.encoding import CATEGORY, QUANTITY, Encoding, encode, encoding_of, kind_of
from tasks.compute.ranged import RangedFile, Store
from tasks.errors import SpecError, TrainingError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BATCH_VALUES = 25_000_000
"""About how many values, rows x features, a training process encodes at a time: 100 MB of them, whatever the width."""


@dataclass(frozen=True)
class TrainingData:
    """Parquet files with features and labels.

    Attributes:
        files: paths, or keys of the store; their order is that of the rows.
        label: the label's column: 0 and 1, a number, or a class's index; never null.
        store: where the files are; None for local paths.
        codes: for each file the class's index that each label in it means; none where labels are what they say.
    """

    files: tuple[str, ...]
    label: str = "label"
    store: Store | None = None
    codes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file.

    Attributes:
        path: the file.
        index: 0-based place of the row group in it.
        rows: its rows, more than none.
    """

    path: str
    index: int
    rows: int


@dataclass(frozen=True)
class Survey:
    """What the footers say of training data.

    Attributes:
        groups: the row groups that hold rows, in the files' order.
        low, high: least and greatest label.
        empty: features without any value.
    """

    groups: tuple[RowGroup, ...]
    low: float
    high: float
    empty: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


def survey(data: TrainingData, features: Iterable[str]) -> Survey:
    """Look at the files' footers; of a file written without statistics the label is read.

    Raises:
        TrainingError: no rows, or no label in a row.
    """
    groups, lows, highs, empty = [], [], [], set(features)
    for path in data.files:
        with _open(data, path) as file:
            names = file.schema_arrow.names
            for index in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(index)
                if not group.num_rows:
                    continue
                groups.append(RowGroup(path, index, group.num_rows))
                low, high = _extent(file, index, names.index(data.label), data.label)
                if low is None:
                    raise TrainingError(f"{path}: a label is missing or infinite", hint="leave such rows out")
                lows.append(float(low))
                highs.append(float(high))
                for place, name in enumerate(names):
                    statistics = group.column(place).statistics if name in empty else None
                    known = statistics is not None and statistics.has_null_count
                    if name in empty and not (known and statistics.null_count == group.num_rows):
                        empty.discard(name)
    if not groups:
        raise TrainingError(f"the training data has no rows in {len(data.files)} files")
    return Survey(tuple(groups), min(lows), max(highs), tuple(name for name in features if name in empty))


def _extent(file: pq.ParquetFile, index: int, place: int, label: str) -> tuple[Any, Any]:
    statistics = file.metadata.row_group(index).column(place).statistics
    if statistics is not None and statistics.has_min_max:
        return statistics.min, statistics.max
    import pyarrow.compute as pc

    found = pc.min_max(file.read_row_group(index, columns=[label]).column(label))
    return found["min"].as_py(), found["max"].as_py()


def deal(groups: Sequence[RowGroup], workers: int) -> list[tuple[RowGroup, ...]]:
    """Row groups dealt to workers, evenly by rows, each hand in the files' order.

    The largest goes first, to the worker with the fewest rows; ties go by order, so the same
    groups are always dealt alike. With fewer groups than workers, fewer workers get any.
    """
    count = max(1, min(workers, len(groups)))
    hands: list[list[int]] = [[] for _ in range(count)]
    load = [(0, worker) for worker in range(count)]
    for place in sorted(range(len(groups)), key=lambda place: (-groups[place].rows, place)):
        rows, worker = heapq.heappop(load)
        hands[worker].append(place)
        heapq.heappush(load, (rows + groups[place].rows, worker))
    return [tuple(groups[place] for place in sorted(hand)) for hand in hands]


def batch_rows(features: int) -> int:
    """About how many rows of so many features a training process encodes at a time."""
    return max(1, BATCH_VALUES // max(1, features))


def batches_of(hand: Iterable[RowGroup], rows: int) -> list[tuple[RowGroup, ...]]:
    """A hand's row groups joined to batches of at most about `rows`; a larger group stays alone."""
    batches: list[list[RowGroup]] = []
    held = 0
    for group in hand:
        if not batches or held + group.rows > rows:
            batches.append([])
            held = 0
        batches[-1].append(group)
        held += group.rows
    return [tuple(batch) for batch in batches]


def read_rows(
    groups: Sequence[RowGroup], data: TrainingData, encoding: Encoding, *, whole: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Read and encode row groups, one at a time; of a file in a store, their columns' bytes and the footer travel.

    Args:
        whole: whether every label must be a whole number.

    Returns:
        A matrix (rows, features), column-major, and labels (rows,), both float32.

    Raises:
        TrainingError: a label is missing, infinite, or not whole.
    """
    import pyarrow as pa

    rows = sum(group.rows for group in groups)
    matrix = np.empty((rows, len(encoding.columns)), dtype=np.float32, order="F")
    label = np.empty(rows, dtype=np.float32)
    codes = dict(zip(data.files, data.codes, strict=True)) if data.codes else {}
    done = 0
    for path, of_file in groupby(groups, attrgetter("path")):
        with _open(data, path, texts=encoding.categories) as file:
            for group in of_file:
                table = file.read_row_group(group.index, columns=[*encoding.columns, data.label])
                until = done + group.rows
                encode(table, encoding, out=matrix[done:until])
                label[done:until] = table.column(data.label).cast(pa.float32(), safe=False).to_numpy()
                _check(label[done:until], path, whole=whole)
                if codes:
                    label[done:until] = np.array(codes[path], np.float32)[label[done:until].astype(np.intp)]
                done = until
    return matrix, label


def _check(label: np.ndarray, path: str, *, whole: bool) -> None:
    if not np.isfinite(label).all():
        raise TrainingError(f"{path}: a label is missing or infinite", hint="leave such rows out")
    if whole and not (label == np.floor(label)).all():
        raise TrainingError(f"{path}: a label is no whole number, as a class's index must be")


def fit_encoding_files(data: TrainingData, features: Iterable[str]) -> Encoding:
    """The encoding of Parquet files: reads their schemas, and of the rows only the text columns.

    Raises:
        SpecError: as `fit_encoding`.
    """
    names = tuple(features)
    kinds: dict[str, str] = {}
    categories: dict[str, set[str]] = {}
    for path in data.files:
        found, texts = kinds_of_file(data, path, names)
        join_kinds(kinds, found, path)
        for name, values in texts.items():
            categories.setdefault(name, set()).update(values)
    return encoding_of({name: kinds.get(name, QUANTITY) for name in names}, categories)


def kinds_of_file(
    data: TrainingData, path: str, features: Iterable[str]
) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """A file's features with their kinds, but those without any value; and the texts of each that is one.

    Raises:
        SpecError: as `fit_encoding`.
    """
    import pyarrow.compute as pc

    kinds: dict[str, str] = {}
    names = tuple(features)
    with _open(data, path, texts=names) as file:
        schema = file.schema_arrow
        for name in names:
            if schema.get_field_index(name) < 0:
                raise SpecError(f"feature {name!r} is not in {path}, which has {', '.join(schema.names)}")
            kind = kind_of(name, schema.field(name).type)
            if kind is not None:
                kinds[name] = kind
        found: dict[str, set[str]] = {name: set() for name, kind in kinds.items() if kind == CATEGORY}
        for batch in file.iter_batches(columns=list(found)) if found else ():
            for name, texts in found.items():
                column = batch.column(name)
                used = column.dictionary.take(pc.unique(column.indices).drop_null())
                texts.update(text for text in used.to_pylist() if text is not None)
    return kinds, {name: frozenset(texts) for name, texts in found.items()}


def join_kinds(kinds: dict[str, str], found: Mapping[str, str], path: str) -> None:
    """Add a file's kinds to those of the files before it.

    Raises:
        SpecError: one is text here and a number there.
    """
    for name, kind in found.items():
        if kinds.setdefault(name, kind) != kind:
            raise SpecError(
                f"feature {name!r} is text in one part of the data and a number in another: {path}",
                hint="cast it to one type in the feature SQL",
            )


def _open(data: TrainingData, path: str, *, texts: Iterable[str] = ()) -> pq.ParquetFile:
    """A file; those of the columns `texts` that are texts are read as dictionaries, each text once in a row group."""
    import pyarrow.parquet as pq

    source = path if data.store is None else RangedFile(data.store, path)
    file = pq.ParquetFile(source, memory_map=data.store is None)
    there = [name for name in texts if name in file.schema_arrow.names]
    if not there:
        return file
    return pq.ParquetFile(source, metadata=file.metadata, memory_map=data.store is None, read_dictionary=there)
