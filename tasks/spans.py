"""A training's window in spans of partitions: each is joined to its labels by whoever has room for it, into one file.

Whoever joins a span says what it saw; its rows go to those that train, and through nobody else's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.domain import tables
from tasks.domain.partition import partitions
from tasks.domain.results import FeaturizeResult, TrainingPin
from tasks.domain.spec import PipelineSpec
from tasks.errors import TrainingError
from tasks.labelled import labelled_rows
from tasks.lake import Lake
from tasks.search import validation

if TYPE_CHECKING:
    from tasks.compute.constant import LabelTotals
    from tasks.compute.encoding import Encoding
    from tasks.compute.looks import Look
    from tasks.compute.rows import Survey, TrainingData

SPAN_ROWS, SPAN_VALUES = 1_000_000, 40_000_000
"""The most rows of a span, and the most values, where one partition alone has no more: however wide the rows are."""
_ROW_GROUP = 131_072
"""The most rows of a row group, which one worker reads as a whole."""
_ROW_GROUPS, _LEAST_ROW_GROUP = 8, 128
"""Into how many row groups fewer rows are divided, so that several workers have a share, and of how many at least."""
CELL = 16
"""Bytes that a value takes as it is read, in Arrow: a number 8, a text more."""
_COPIES = 3
"""How often the rows of a span that is being joined are in memory: as read, in order, as written."""
_SEVERAL = "multi:softprob"


@dataclass(frozen=True)
class Span:
    """Partitions that are joined together.

    Attributes:
        first, last: the first one's key and the last one's.
        partitions: how many.
        rows: of their features.
        judges: whether the rows judge the trials of a search.
    """

    first: str
    last: str
    partitions: int
    rows: int
    judges: bool = False

    @property
    def file(self) -> str:
        """The name of its rows' file, the same wherever and whenever it is written."""
        return f"{self.first}..{self.last}.parquet"


@dataclass(frozen=True)
class Window:
    """What a training learns from.

    Attributes:
        rows: key of each of its partitions, in order -> rows of the features.
        columns: of the features, with entity and partition key.
        judging: key of the first partition that judges a search's trials; None without one.
    """

    spec: PipelineSpec
    pin: TrainingPin
    features: FeaturizeResult
    rows: Mapping[str, int]
    columns: int
    judging: str | None

    def spans(self, most: int | None = None) -> list[Span]:
        """The window in order, in spans of at most about `most` rows; None: what SPAN_ROWS and SPAN_VALUES say.

        Partitions that judge a search's trials begin a span: no file holds rows of both parts.
        """
        most = min(SPAN_ROWS, max(1, SPAN_VALUES // self.columns)) if most is None else most
        spans: list[Span] = []
        judges = False
        for key, rows in self.rows.items():
            begins = key == self.judging
            judges = judges or begins
            if not spans or begins or spans[-1].rows + rows > most:
                spans.append(Span(key, key, 1, rows, judges))
            else:
                grown = {"partitions": spans[-1].partitions + 1, "rows": spans[-1].rows + rows}
                spans[-1] = replace(spans[-1], last=key, **grown)
        return spans


@dataclass(frozen=True)
class Joined:
    """A span's labelled rows, and what was seen of them.

    Attributes:
        file: where they are; None where no row has a label.
        features: their names, in the file's order.
        dropped: reason -> rows without a usable label.
        classes: for several classes, what each label of the file means.
    """

    file: str | None
    features: tuple[str, ...]
    look: Look | None
    totals: LabelTotals
    dropped: Mapping[str, int]
    classes: tuple[str, ...]

    def at(self, path: str) -> Joined:
        """The same rows in a copy of the file."""
        return replace(self, file=path, look=self.look.at(path) if self.look else None)


@dataclass(frozen=True)
class Rows:
    """All labelled rows of a window.

    Attributes:
        dropped: reason -> rows without a usable label.
        classes: for several classes, what each index means.
        constant: the best constant of the labels; for several classes one value for each.
        judging: the files whose rows judge the trials of a search; none without one.
    """

    data: TrainingData
    encoding: Encoding
    seen: Survey
    dropped: Mapping[str, int]
    classes: tuple[str, ...]
    constant: float | list[float]
    judging: tuple[str, ...]


Join = Callable[[Window, str], Rows]
"""Joins a window elsewhere, given the folder of the lake for the rows: see `tasks.train.train`."""


def window_of(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult, lake: Lake) -> Window:
    """What a training learns from, of metadata alone.

    Raises:
        TrainingError: a search is asked for, and the window is too short for it.
    """
    name = tables.features(spec.pipeline, pin.view)
    table, version = lake.table(name), features.versions[name]
    entries = table.entries(version=version)
    every = partitions(*(spec.partition(key) for key in pin.train))
    judging = validation(spec, pin)
    return Window(
        spec,
        pin,
        features,
        {one.key: entries[(one.key,)].rows for one in every},
        len(table.snapshot(version).schema),
        judging[0].key if judging else None,
    )


def join_here(window: Window, lake: Lake, folder: Path, *, threads: int = 1, memory: int | None = None) -> Rows:
    """Join a window in this process into files of a folder, some spans at a time: it is never whole in memory.

    Args:
        threads: at most so many spans at a time.
        memory: bytes that may be taken, half of them by DuckDB; one span is always joined.
    """
    import pyarrow.parquet  # noqa: F401  not by several threads at once

    from tasks.sql.session import sql_memory

    spans = window.spans()
    if memory is not None:
        threads = min(threads, memory // (_COPIES * CELL * window.columns * max(span.rows for span in spans) or 1))
    threads = max(1, threads)
    limit = sql_memory(memory, threads)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="join")
    try:
        joined = list(pool.map(lambda span: join_span(window, span, lake, folder, memory_limit=limit), spans))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error the spans that wait are not begun
    return rows_of(window, spans, joined)


def join_span(window: Window, span: Span, lake: Lake, folder: Path, *, memory_limit: str | None = None) -> Joined:
    """Join one span to its labels as they were known at the training's cut, into a file of a folder.

    Args:
        memory_limit: for the join, in DuckDB's spelling.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.compute.constant import label_totals
    from tasks.compute.looks import look_at

    spec, pin = window.spec, window.pin
    keys = span.first, span.last
    labelled = labelled_rows(spec, pin, window.features, pin.view, keys, lake, memory_limit=memory_limit)
    table = labelled.table
    names = tuple(name for name in table.column_names if name not in (*spec.entity, "partition_key", "label"))
    label = table["label"].cast(pa.float32())
    totals = label_totals(spec.train.objective, label.to_numpy())
    joined = Joined(None, names, None, totals, labelled.dropped, labelled.classes)
    if not table.num_rows:
        return joined
    path = str(folder / span.file)
    group = min(_ROW_GROUP, max(_LEAST_ROW_GROUP, -(-table.num_rows // _ROW_GROUPS)))
    data = table.select(names).append_column("label", label)
    pq.write_table(data, path, row_group_size=group, compression="zstd")
    return replace(joined, file=path, look=look_at(path, names))


def rows_of(window: Window, spans: Sequence[Span], joined: Sequence[Joined], store: Any = None) -> Rows:
    """Put together what was seen of the spans.

    Args:
        store: where the files are; None for local paths.

    Raises:
        TrainingError: no row has a label, or all have the same.
    """
    from tasks.compute.constant import best_constant
    from tasks.compute.looks import together
    from tasks.compute.rows import TrainingData

    spec = window.spec
    dropped: dict[str, int] = {}
    for one in joined:
        for reason, count in one.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    there = [(span, one) for span, one in zip(spans, joined, strict=True) if one.look is not None]
    if not there:
        raise TrainingError(
            f"{spec.pipeline} {window.pin.training}: no labelled row from {window.pin.train[0]} to {window.pin.train[1]}: {dropped}",
            hint="look at label.sql, label.unlabelled and the entity of the label source",
        )
    encoding, seen = together([one.look for _, one in there], there[0][1].features)
    totals, codes, classes = [one.totals for _, one in there], (), ()
    if spec.train.objective == _SEVERAL:
        classes = _in_order({text for _, one in there for text in one.classes})
        place = {text: number for number, text in enumerate(classes)}
        meant = [tuple(place[text] for text in one.classes) for _, one in there]
        totals = [
            replace(one, values=tuple(mine[int(value)] for value in one.values))
            for one, mine in zip(totals, meant, strict=True)
        ]
        seen = replace(seen, low=0.0, high=len(classes) - 1.0)
        codes = tuple(meant) if any(mine != tuple(range(len(classes))) for mine in meant) else ()
    if spec.train.objective.startswith(("binary", "multi")) and seen.low == seen.high:
        raise TrainingError(
            f"{spec.pipeline} {window.pin.training}: all {seen.rows} labels are the same",
            hint="look at label.sql, or train a longer window",
        )
    return Rows(
        data=TrainingData(tuple(one.file for _, one in there), store=store, codes=codes),
        encoding=encoding,
        seen=seen,
        dropped=dropped,
        classes=classes,
        constant=best_constant(spec.train.objective, totals, classes=len(classes)),
        judging=tuple(one.file for span, one in there if span.judges),
    )


def _in_order(classes: set[str]) -> tuple[str, ...]:
    numbers = all(text.lstrip("-").isdigit() for text in classes)
    return tuple(sorted(classes, key=int) if numbers else sorted(classes))
