"""A range on the workers of an outside Dask scheduler: cut into chunks, done by whoever is free, merged into one result."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.command.part import LakeAt, Part, SpanPart, featurize_part, join_part, score_part
from tasks.domain import cut, tables
from tasks.domain.chunks import chunk_count, cut_chunks
from tasks.domain.partition import Partition, overlapping
from tasks.domain.results import FeaturizeResult, PinResult, ScoreResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import ClusterError, MillraceError, NoPlaceError, SupersededError, Terminal
from tasks.fit import tls_of
from tasks.lake import Lake
from tasks.lake.views import view_key
from tasks.settings import Settings
from tasks.spans import CELL, SPAN_ROWS, rows_of

if TYPE_CHECKING:
    from tasks.compute.chunks import Ended
    from tasks.compute.spread import Spread
    from tasks.spans import Rows, Window

_ATTEMPTS = 3
"""How often the chunks are dealt out when the scheduler or all workers were lost: what is committed costs little again."""
_ROWS_SHARE = 0.25
"""Of a worker's memory, for the rows of its chunk and of the lookback before it."""
_EACH = 2
"""Spans of a training's window for each worker: the last ones to end wait for half a share at most."""


@dataclass(frozen=True)
class _Piece:
    """What one worker does: a name for it, the work, and of how many partitions."""

    name: str
    work: Callable[..., Any]
    partitions: int


@dataclass(frozen=True)
class Outside:
    """One call's work on the workers.

    Attributes:
        settings: with a `dask_scheduler`.
        run: who runs; each worker commits in its name.
        say: tells a line.
        progress: partitions done, and of how many.
    """

    settings: Settings
    run: RunRef
    say: Callable[[str], None]
    progress: Callable[[int, int], None]

    def featurize(
        self,
        spec: PipelineSpec,
        lake: Lake,
        wanted: Sequence[Partition],
        views,
        snapshots,
        pin: PinResult | None = None,
    ) -> int:
        """Have features computed and committed; returns for how many partitions, once for each view."""
        settings = self.settings
        part = Part(spec, tuple(wanted), views, snapshots, LakeAt.of(settings), self.run, settings.feature_rows, pin)
        return sum(one.computed for one in self._range("featurize", featurize_part, part, lake))

    def score(
        self,
        spec: PipelineSpec,
        lake: Lake,
        wanted: Sequence[Partition],
        views: dict[str, list[str]],
        pin: PinResult,
        features: FeaturizeResult | None,
    ) -> ScoreResult:
        """Have features computed, where they are not given, and predictions published.

        Raises:
            SupersededError: others published all of the partitions, or other versions became champion.
            MillraceError: a chunk failed; what others published stays, and the message says how much.
        """
        part = Part(
            spec,
            tuple(wanted),
            views,
            pin.snapshots,
            LakeAt.of(self.settings),
            self.run,
            self.settings.feature_rows,
            pin,
            features,
            self.settings.score_batch_rows,
        )
        found = self._range("score", score_part, part, lake)
        outcomes = tuple(one for result in found for one in result.partitions)
        if all(one.status == "superseded" for one in outcomes):
            raise SupersededError(
                f"{spec.pipeline} {wanted[0].key} to {wanted[-1].key}: others published them since they were pinned, or another version became champion",
                hint="nothing was published; run it again to see what is due",
            )
        return ScoreResult(spec.pipeline, max(one.version for one in found), outcomes, pin.skipped)

    def join(self, lake: Lake, window: Window, folder: str) -> Rows:
        """Have a training's window joined to its labels; the rows are left in a folder of the lake.

        Raises:
            MillraceError: a span failed, or no row has a label.
        """
        where, spans = LakeAt.of(self.settings), []

        def cut(workers: int, memory: int | None) -> list[_Piece]:
            share = -(-sum(window.rows.values()) // (workers * _EACH))
            fits = int(memory * _ROWS_SHARE / (CELL * window.columns)) if memory else SPAN_ROWS
            spans[:] = window.spans(max(1, min(SPAN_ROWS, share, fits)))
            name = window.spec.pipeline
            return [
                _Piece(
                    f"{name}-{span.first}..{span.last}",
                    partial(join_part, SpanPart(window, span, where, folder)),
                    span.partitions,
                )
                for span in spans
            ]

        sees = view_key(window.spec.pipeline, window.pin.view), where
        joined = self._do("join", cut, sees, len(window.rows), done="joined")
        return rows_of(window, spans, joined, store=lake.objects)

    def _range(self, verb: str, work: Callable[..., Any], whole: Part, lake: Lake) -> list[Any]:
        def cut(workers: int, memory: int | None) -> list[_Piece]:
            parts = cut_parts(whole, lake, workers=workers, memory=memory)
            name = whole.spec.pipeline
            return [_Piece(f"{name}-{_name(part)}", partial(work, part), len(part.partitions)) for part in parts]

        sees = view_key(whole.spec.pipeline, next(iter(whole.views))), whole.lake
        done = "published" if verb == "score" else "computed"
        return self._do(verb, cut, sees, len(whole.partitions), done=done)

    def _do(
        self,
        verb: str,
        cut: Callable[[int, int | None], list[_Piece]],
        sees: tuple[str, LakeAt],
        total: int,
        *,
        done: str,
    ) -> list[Any]:
        """Have pieces done on the workers; what each returned.

        Args:
            cut: gives the pieces for so many workers, of which each may take so much memory.
            sees: an object that the workers must see, and where.
            total: partitions.
            done: what becomes of a piece that is done, in a word.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                pieces, outcomes = self._deal(verb, cut, sees, total)
                break
            except ClusterError as error:
                if isinstance(error, NoPlaceError) or attempt == _ATTEMPTS:
                    raise
                self.say(f"{verb}: {error.message}; tried again")
        _raise_first([one.error for one in outcomes], pieces, done=done)
        return [one.value for one in outcomes]

    def _deal(self, verb: str, cut, sees: tuple[str, LakeAt], total: int) -> tuple[list[_Piece], list[Ended]]:
        from tasks.compute.chunks import Chunk, check_workers, do_chunks
        from tasks.compute.turn import alone

        with self._workers() as place:
            key, where = sees
            memory = check_workers(place, sees=partial(where.holds, key), what=f"{key} in the lake at {where.uri}")
            pieces = cut(place.workers, memory)
            chunks = [Chunk(f"{verb}-{piece.name}", piece.work) for piece in pieces]
            self.say(f"{verb}: {total} partitions in {len(chunks)} chunks on {place.workers} Dask workers")
            done: list[int] = []

            def ended(number: int) -> None:
                done.append(pieces[number].partitions)
                self.progress(sum(done), total)

            waits = partial(self.say, "waits for another run on the Dask workers")
            with alone(place.client, f"{verb}-{uuid.uuid4().hex}", waits=waits):
                return pieces, do_chunks(place, chunks, ended=ended)

    def _workers(self) -> AbstractContextManager[Spread]:
        from tasks.compute.cluster import open_cluster

        settings = self.settings
        return open_cluster(
            scheduler=settings.dask_scheduler,
            workers=settings.workers,
            threads=settings.threads,
            memory_limit=settings.memory_limit,
            gpus="auto",
            workdir=settings.home / "dask",
            stall=settings.train_stall,
            tls=tls_of(settings),
        )


def cut_parts(whole: Part, lake: Lake, *, workers: int, memory: int | None) -> list[Part]:
    """The parts that a range is cut into, in order.

    Args:
        workers: how many there are.
        memory: bytes that one of them may take; None for no limit.
    """
    spec, wanted = whole.spec, whole.partitions
    length = (wanted[-1].end - wanted[0].start) / len(wanted)
    lookback = (wanted[0].start - spec.lookback.before(wanted[0].start, spec.timezone)) / length
    most = memory * _ROWS_SHARE / max(_bytes_each(whole, lake), 1) - lookback if memory else len(wanted)
    count = chunk_count(len(wanted), workers=workers, lookback=lookback, most=most)
    parts = []
    for places in cut_chunks(_weights(whole, lake), count):
        partitions = wanted[places.start : places.stop]
        keys = {one.key for one in partitions}
        views = {view: [key for key in named if key in keys] for view, named in whole.views.items()}
        pin, features = whole.pin, whole.features
        if pin is not None:
            pin = replace(pin, partitions=tuple(one for one in pin.partitions if one.key in keys), skipped=())
        if features is not None:
            share = len(keys) / len(wanted)
            features = replace(
                features,
                partitions=tuple(one for one in features.partitions if one.key in keys),
                computed=round(features.computed * share),
                seconds=features.seconds * share,
            )
        views = {view: named for view, named in views.items() if named}
        parts.append(replace(whole, partitions=partitions, views=views, pin=pin, features=features))
    return parts


def _weights(whole: Part, lake: Lake) -> list[int]:
    """The work of each partition: its driving rows, as the newest revision has them, and something for any."""
    spec, name = whole.spec, tables.clean(whole.spec.driver.name)
    rows = {key: entry.rows for (key, _), entry in lake.table(name).entries(version=whole.snapshots[name]).items()}
    return [1 + sum(rows.get(key, 0) for key in cut.driving_keys(spec, one)) for one in whole.partitions]


def _bytes_each(whole: Part, lake: Lake) -> float:
    """About how much memory the rows of one partition's time take, of all sources together."""
    spec, total = whole.spec, 0
    start, end = whole.partitions[0].start, whole.partitions[-1].end
    for name, use in spec.sources.items():
        source, table = use.source, lake.table(tables.clean(name))
        if source.grain != "none":
            keys = {one.key for one in overlapping(source.grain, source.timezone, start, end)}
            entries = table.entries(version=whole.snapshots[table.name])
            rows = sum(entry.rows for (key, _), entry in entries.items() if key in keys)
            total += rows * len(source.columns) * CELL
    return total / len(whole.partitions)


def _raise_first(errors: Sequence[BaseException | None], pieces: Sequence[_Piece], *, done: str) -> None:
    """The error that no retry mends, else the first; with what became of the others."""
    there = sorted((error for error in errors if error is not None), key=lambda error: not isinstance(error, Terminal))
    if not there:
        return
    first = there[0]
    count = sum(piece.partitions for piece, error in zip(pieces, errors, strict=True) if error is None)
    text = f"{len(there)} of {len(pieces)} chunks failed; the {count} partitions of the others were {done} and stay"
    if isinstance(first, MillraceError):
        first.message = f"{first.message}; {text}"
    else:
        first.add_note(text)
    raise first


def _name(part: Part) -> str:
    first, last = part.partitions[0].key, part.partitions[-1].key
    return first if first == last else f"{first}..{last}"
