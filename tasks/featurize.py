"""Clean rows known at as_of -> a feature partition, through the feature view that a model names.

A view is versioned by the digest of its SQL and inputs and lies in the lake, so that an older model
is scored with the SQL it was trained with. A partition whose visible inputs have not changed since
it was computed is not computed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from tasks.domain import cut, tables
from tasks.domain.grouping import groups
from tasks.domain.partition import Partition, iso
from tasks.domain.results import Data, Featurized, FeaturizeResult
from tasks.domain.rollup import Piece, Pieces, Rollup
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import NotReadyError, SupersededError
from tasks.lake import Entry, Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.views import load_view
from tasks.rollup import Needed, rollup_rows
from tasks.view import as_viewed, sources_read

if TYPE_CHECKING:
    from tasks.sql.slices import SourceRows

ROUNDS = 5
"""How often a view's table is looked at again because somebody else computed one of the partitions meanwhile."""


def featurize(
    *,
    spec: PipelineSpec,
    partitions: Sequence[Partition],
    views: dict[str, Sequence[str]],
    snapshots: dict[str, int],
    lake: Lake,
    run: RunRef,
    threads: int,
    rows_at_a_time: int,
    memory_limit: str | None = None,
    data: Data = "as-known",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeaturizeResult:
    """Compute the features of `partitions` for each of `views`.

    Args:
        partitions: in order.
        views: view id -> keys of the partitions that need it.
        snapshots: clean tables' versions, from the pin.
        threads: partitions that are computed at a time.
        rows_at_a_time: rows of the sources that are held, unless one partition alone needs more; what needs
            more together is computed and committed in several groups.
        memory_limit: of the SQL of each thread, in DuckDB's spelling.
        data: from the pin.
    """
    started = time.perf_counter()
    by_key = {partition.key: partition for partition in partitions}
    versions, outcomes, computed = {}, {}, 0
    for view, keys in views.items():
        wanted = [by_key[key] for key in keys]
        version, found, fresh = _one_view(
            spec, wanted, view, snapshots, lake, run, threads, rows_at_a_time, memory_limit, data, progress
        )
        versions[tables.features(spec.pipeline, view)] = version
        outcomes |= found
        computed += fresh
    ordered = tuple(outcomes[partition.key] for partition in partitions if partition.key in outcomes)
    return FeaturizeResult(spec.pipeline, versions, ordered, computed, time.perf_counter() - started)


def _one_view(spec, partitions, view, snapshots, lake, run, threads, rows_at_a_time, memory_limit, data, progress):
    values = load_view(lake, spec.pipeline, view)
    spec = as_viewed(spec, values)
    table = lake.table(tables.features(spec.pipeline, view))
    delivered = {name: deliveries(lake, name, snapshots[tables.clean(name)]) for name in spec.sources}
    shown = cut.corrected(spec, delivered) if data == "corrected" else delivered
    seen = {one.key: cut.visible_sources(spec, one, shown) for one in partitions}
    _check_complete(view, spec, seen)
    sources = _Sources(values["sources"], snapshots, lake)
    work = _Work(spec, values, seen, delivered, snapshots, sources, lake, run, threads, rows_at_a_time, memory_limit)
    fresh: set[str] = set()
    lost, least = 0, len(partitions) + 1
    while True:
        pinned = table.version()
        entries = table.entries(version=pinned)
        outcomes, todo = {}, []
        for partition in partitions:
            entry = entries.get((partition.key,))
            if entry is not None and entry.meta["visible"] == work.digest(partition):
                outcomes[partition.key] = Featurized(partition.key, entry.meta["entities"], entry.rows)
            else:
                todo.append(partition)
        if not todo:  # one version that holds all of them: what others overwrote between two groups is done again
            return pinned, outcomes, len(fresh)
        lost, least = (0, len(todo)) if len(todo) < least else (lost + 1, least)
        if lost == ROUNDS:
            raise SupersededError(
                f"table {table.name!r}: {todo[0].key} was written by another run {ROUNDS} times, from other deliveries",
                hint="pin again: the newer snapshots stand",
            )
        ended = len(partitions) - len(todo)
        try:
            for group in groups(todo, needs=work.holds, weight=work.weigh, limit=rows_at_a_time):

                def progressed(done: int, ended: int = ended) -> None:
                    progress(ended + done, len(partitions))

                found, pinned = work.compute(group, table, pinned, progressed)
                fresh |= set(found)
                ended += len(found)
        except SupersededError:
            # Features follow from what is visible, so whoever computed them, they are the same: look again.
            continue


def _check_complete(view: str, spec: PipelineSpec, seen) -> None:
    """An older view may reach further back than the spec that the pin went by: thin history is never used silently."""
    for key, sources in seen.items():
        missing = tuple(f"{name}/{one}" for name, found in sources.items() for one in found.missing)
        if missing:
            raise NotReadyError(
                f"{spec.pipeline} {key}: view {view} waits for {', '.join(missing[:3])}",
                missing=missing,
                hint="ingest what is named, or declare it under `missing` of its source",
            )


class _Work:
    """One view's features for some partitions."""

    def __init__(self, spec, view, seen, delivered, snapshots, sources, lake, run, threads, limit, memory) -> None:
        from tasks.sql.syntax import tables_in

        self.spec, self.view, self.seen, self.delivered, self.snapshots = spec, view, seen, delivered, snapshots
        self.sources, self.lake, self.run, self.threads = sources, lake, run, threads
        self.limit, self.memory = limit, memory
        rollups = {name: Rollup(**one) for name, one in view.get("rollups", {}).items()}
        read = tables_in(view["sql"], among=[*spec.sources, *rollups])
        self.read = [name for name in read if name in spec.sources]
        self.back = sources_read(view)
        self.rollups = {name: one for name, one in rollups.items() if name in read}
        declared = {name: use.source for name, use in spec.sources.items()}
        self.pieces = {name: Pieces(one, declared) for name, one in self.rollups.items()}
        self.kept: dict[str, dict] = {}

    def digest(self, partition: Partition) -> str:
        """Names what the partition sees."""
        return cut.digest_of(self.seen[partition.key])

    def needs(self, partition: Partition) -> set[Needed]:
        """The revisions whose rows the feature SQL itself reads: of a source behind a rollup none."""
        seen, driver = self.seen[partition.key], self.spec.driver.name
        needed = {(name, pair) for name in self.read for pair in seen[name].revisions}
        return needed | {(driver, pair) for pair in self._driving(partition)}

    def holds(self, partition: Partition) -> set[Needed | tuple[str, Piece]]:
        """What is in memory while the partition is computed: the revisions that its SQL reads, and rollups' pieces."""
        seen = self.seen[partition.key]
        return self.needs(partition) | {(name, one) for name, found in self.pieces.items() for one in found.seen(seen)}

    def weigh(self, held: Needed | tuple[str, Piece]) -> int:
        """How many rows that is; of a piece that is not there yet, as many as its source partition has, at most."""
        name, what = held
        if not isinstance(what, Piece):
            return self.sources.rows((name, what))
        if name not in self.kept:
            table = self.lake.table(tables.rollup(self.spec.pipeline, self.rollups[name].id))
            self.kept[name] = table.entries()
        entry = self.kept[name].get((what.key, what.made_of))
        over = self.rollups[name].over
        return entry.rows if entry else sum(self.sources.rows((over, pair)) for pair in dict(what.inputs)[over])

    def compute(
        self, group: list[Partition], table, pinned: int, progressed: Callable[[int], None]
    ) -> tuple[dict[str, Featurized], int]:
        """The group's features, in one commit: what came out by key, and the table's version."""
        import pyarrow as pa

        from tasks.lake.schema import arrow_schema
        from tasks.sql.features import FeatureEngine

        view, spec = self.view, self.spec
        kept = {tables.clean(name): self.snapshots[tables.clean(name)] for name in spec.sources}
        places: dict[str, dict[Piece, int]] = {}
        rolled = {}
        for name, rollup in self.rollups.items():
            every = {piece for one in group for piece in self.pieces[name].seen(self.seen[one.key])}
            pieces = sorted(every, key=lambda piece: (piece.start, piece.made_of))
            rolled[name], kept[tables.rollup(spec.pipeline, rollup.id)] = self._rolled(rollup, pieces, dict(kept))
            places[name] = {piece: place for place, piece in enumerate(pieces, start=1)}
        rows = self.sources.read({need for one in group for need in self.needs(one)})
        parts, entries, outcomes = [], [], {}
        with FeatureEngine(
            rows | rolled,
            driver=view["driver"],
            time=view["time"],
            entity=tuple(view["entity"]),
            threads=self.threads,
            memory_limit=self.memory,
        ) as engine:
            cuts = [self._cut(one, places) for one in group]
            for partition, result in zip(group, engine.compute_all(view["sql"], cuts), strict=True):
                part = result.table
                keys = pa.array([partition.key] * part.num_rows, pa.string())
                parts.append(part.append_column("partition_key", keys))
                meta = self._meta(partition, result.entities, kept)
                entries.append(Entry((partition.key,), part.num_rows, meta))
                outcomes[partition.key] = Featurized(partition.key, result.entities, part.num_rows)
                progressed(len(outcomes))
        columns = {**view["output"], "partition_key": "string"}
        version = table.replace(
            pinned=pinned,
            columns=arrow_schema(columns),
            partition_by=tables.PIPELINE_KEY,
            data=pa.concat_tables([part.select(list(columns)) for part in parts]),
            entries=entries,
            run=self.run,
        )
        return outcomes, version

    def _rolled(self, rollup: Rollup, pieces: list[Piece], inputs: dict[str, int]) -> tuple[SourceRows, int]:
        return rollup_rows(
            pipeline=self.spec.pipeline,
            rollup=rollup,
            pieces=pieces,
            deliveries=self.delivered,
            read=self.sources.read,
            weigh=self.sources.rows,
            limit=self.limit,
            inputs={tables.clean(name): inputs[tables.clean(name)] for name in rollup.reads},
            lake=self.lake,
            run=self.run,
            threads=self.threads,
            memory_limit=self.memory,
        )

    def _driving(self, partition: Partition) -> tuple[tuple[str, int], ...]:
        driving = set(cut.driving_keys(self.spec, partition))
        return tuple(pair for pair in self.seen[partition.key][self.spec.driver.name].revisions if pair[0] in driving)

    def _cut(self, partition: Partition, places: dict[str, dict[Piece, int]]):
        from tasks.sql.features import Cut

        seen = self.seen[partition.key]
        visible = {name: seen[name].revisions for name in self.read}
        for name, place in places.items():
            visible[name] = tuple((piece.key, place[piece]) for piece in self.pieces[name].seen(seen))
        return Cut(
            partition_key=partition.key,
            as_of=self.spec.as_of.at(partition),
            start=partition.start,
            end=partition.end,
            visible=visible,
            driving=self._driving(partition),
        )

    def _meta(self, partition: Partition, entities: int, inputs: dict[str, int]) -> dict[str, Any]:
        seen = self.seen[partition.key]
        return {
            "visible": self.digest(partition),
            "entities": entities,
            "as_of": iso(self.spec.as_of.at(partition)),
            "late": [f"{name}/{key}" for name, one in seen.items() for key in one.late],
            "thin": cut.thin(self.spec, partition),
            "inputs": inputs,
            "reads": {name: _extent(revisions) for name, revisions in self._read(partition).items()},
        }

    def _read(self, partition: Partition) -> dict[str, tuple[tuple[str, int], ...]]:
        """The revisions that the features follow from, by source."""
        seen, own = self.seen[partition.key], {self.spec.driver.name: self._driving(partition)}
        return own | {name: one.revisions for name, one in seen.items() if name in self.back}


class _Sources:
    """The clean rows of a view's sources, at the versions that were pinned."""

    def __init__(self, declared: dict[str, dict[str, str]], snapshots: dict[str, int], lake: Lake) -> None:
        self._declared = declared
        self._snapshots = snapshots
        self._lake = lake
        self._entries: dict[str, dict] = {}

    def rows(self, needed: Needed) -> int:
        """How many rows a revision has."""
        name, pair = needed
        if name not in self._entries:
            clean = self._lake.table(tables.clean(name))
            self._entries[name] = clean.entries(version=self._snapshots[clean.name])
        return self._entries[name][pair].rows

    def read(self, needed: Collection[Needed]) -> dict[str, SourceRows]:
        """The rows of revisions, by source; of a source without one an empty table."""
        from tasks.lake.schema import arrow_schema
        from tasks.sql.slices import SourceRows

        found = {}
        for name, declared in self._declared.items():
            keys = sorted(pair for one, pair in needed if one == name)
            clean = self._lake.table(tables.clean(name))
            # with _line, the rows' order does not depend on how the table's files lie
            columns = [*declared, "_known_at", "_line", "partition_key", "revision"]
            if keys:
                table = clean.read(version=self._snapshots[clean.name], keys=keys, columns=columns)
            else:  # nothing of it is visible, the table may not even exist
                table = arrow_schema(tables.clean_columns(declared)).empty_table().select(columns)
            found[name] = SourceRows(dict(declared), table)
        return found


def _extent(revisions: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    """The first and last partition read, their number, and those read at a later revision than the first."""
    if not revisions:
        return {"partitions": 0}
    restated = [list(pair) for pair in revisions if pair[1] > 1]
    return {"first": revisions[0][0], "last": revisions[-1][0], "partitions": len(revisions), "restated": restated}
