"""A range on the workers of an outside Dask scheduler: cut into chunks, done by whoever is free, merged into one result."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.command.part import LakeAt, Part, featurize_part, score_part
from tasks.domain import cut, tables
from tasks.domain.chunks import chunk_count, cut_chunks
from tasks.domain.partition import Partition, overlapping
from tasks.domain.results import FeaturizeResult, PinResult, ScoreResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import ClusterError, MillraceError, NoPlaceError, SupersededError, Terminal
from tasks.lake import Lake
from tasks.lake.views import view_key
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.compute.chunks import Ended
    from tasks.compute.spread import Spread

_CELL = 16
"""Bytes that a value takes as it is read, in Arrow: a number 8, a text more."""
_ATTEMPTS = 3
"""How often the chunks are dealt out when the scheduler or all workers were lost: what is committed costs little again."""
_ROWS_SHARE = 0.25
"""Of a worker's memory, for the rows of its chunk and of the lookback before it."""


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

    def featurize(self, spec: PipelineSpec, lake: Lake, wanted: Sequence[Partition], views, snapshots) -> int:
        """Have features computed and committed; returns for how many partitions, once for each view."""
        settings = self.settings
        part = Part(spec, tuple(wanted), views, snapshots, LakeAt.of(settings), self.run, settings.feature_rows)
        return sum(one.computed for one in self._do("featurize", featurize_part, part, lake))

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
        found = self._do("score", score_part, part, lake)
        outcomes = tuple(one for result in found for one in result.partitions)
        if all(one.status == "superseded" for one in outcomes):
            raise SupersededError(
                f"{spec.pipeline} {wanted[0].key} to {wanted[-1].key}: others published them since they were pinned, or another version became champion",
                hint="nothing was published; run it again to see what is due",
            )
        return ScoreResult(spec.pipeline, max(one.version for one in found), outcomes, pin.skipped)

    def _do(self, verb: str, work: Callable[..., Any], whole: Part, lake: Lake) -> list[Any]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                parts, outcomes = self._deal(verb, work, whole, lake)
                break
            except ClusterError as error:
                if isinstance(error, NoPlaceError) or attempt == _ATTEMPTS:
                    raise
                self.say(f"{verb}: {error.message}; tried again")
        _raise_first([one.error for one in outcomes], parts, done="published" if verb == "score" else "computed")
        return [one.value for one in outcomes]

    def _deal(self, verb: str, work: Callable[..., Any], whole: Part, lake: Lake) -> tuple[list[Part], list[Ended]]:
        from tasks.compute.chunks import Chunk, check_workers, do_chunks
        from tasks.compute.turn import alone

        with self._workers() as place:
            key = view_key(whole.spec.pipeline, next(iter(whole.views)))
            sees = partial(whole.lake.holds, key)
            memory = check_workers(place, sees=sees, what=f"{key} in the lake at {whole.lake.uri}")
            parts = cut_parts(whole, lake, workers=place.workers, memory=memory)
            chunks = [Chunk(f"{verb}-{whole.spec.pipeline}-{_name(part)}", partial(work, part)) for part in parts]
            self.say(
                f"{verb}: {len(whole.partitions)} partitions in {len(chunks)} chunks on {place.workers} Dask workers"
            )
            done: list[int] = []

            def ended(number: int) -> None:
                done.append(len(parts[number].partitions))
                self.progress(sum(done), len(whole.partitions))

            waits = partial(self.say, "waits for another run on the Dask workers")
            with alone(place.client, f"{verb}-{uuid.uuid4().hex}", waits=waits):
                return parts, do_chunks(place, chunks, ended=ended)

    def _workers(self) -> AbstractContextManager[Spread]:
        from tasks.compute.cluster import Tls, open_cluster

        settings = self.settings
        files = (settings.dask_tls_ca, settings.dask_tls_cert, settings.dask_tls_key)
        return open_cluster(
            scheduler=settings.dask_scheduler,
            workers=settings.workers,
            threads=settings.threads,
            memory_limit=settings.memory_limit,
            gpus="auto",
            workdir=settings.home / "dask",
            stall=settings.train_stall,
            tls=Tls(*files) if all(files) else None,
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
            features = replace(features, partitions=tuple(one for one in features.partitions if one.key in keys))
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
            total += rows * len(source.columns) * _CELL
    return total / len(whole.partitions)


def _raise_first(errors: Sequence[BaseException | None], parts: Sequence[Part], *, done: str) -> None:
    """The error that no retry mends, else the first; with what became of the others."""
    there = sorted((error for error in errors if error is not None), key=lambda error: not isinstance(error, Terminal))
    if not there:
        return
    first = there[0]
    count = sum(len(part.partitions) for part, error in zip(parts, errors, strict=True) if error is None)
    text = f"{len(there)} of {len(parts)} chunks failed; the {count} partitions of the others were {done} and stay"
    if isinstance(first, MillraceError):
        first.message = f"{first.message}; {text}"
    else:
        first.add_note(text)
    raise first


def _name(part: Part) -> str:
    first, last = part.partitions[0].key, part.partitions[-1].key
    return first if first == last else f"{first}..{last}"
