"""Features computed a second time where nothing lies that was not known yet, and compared; and held against the label.

Three things are looked for, each named by partition, feature, source and column (docs/decisions/0022-leak-check.md):

- `cut`: the cut shows what it should not. A lake is made that holds no row but those known at as_of, and the same
  features are computed there;
- `time`: a source is said to be known before it can be. Where its rows tell of times that had not come, or its
  partition had not ended, the features are computed once more without these rows;
- `label`: a feature is the label, or a column that only outcomes carry, or tells nearly all of it alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.domain import cut, tables
from tasks.domain.leaks import Leak, LeaksResult, Pair, bounds, extents, remaining, telling_times
from tasks.domain.partition import Partition, iso
from tasks.domain.results import FeaturizeResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import NotReadyError, SqlError
from tasks.lake import Entry, Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.views import load_view, view_key
from tasks.planted import planted
from tasks.view import as_viewed

if TYPE_CHECKING:
    import pyarrow as pa

Featurize = Callable[[Lake, Sequence[Partition], Mapping[str, int]], FeaturizeResult]
"""Computes the view's features of partitions in a lake, from its clean tables at versions."""


def leaks(
    *,
    spec: PipelineSpec,
    partitions: Sequence[Partition],
    count: int,
    view: str,
    snapshots: Mapping[str, int],
    labels_as_of: datetime,
    lake: Lake,
    copy: Callable[[str], AbstractContextManager[Lake]],
    featurize: Featurize,
    run: RunRef,
) -> LeaksResult:
    """Look for leaks in the features of some partitions.

    Args:
        partitions: in the order in which they are taken: the first `count` that have a row are computed twice,
            all of them are compared with their labels.
        view: id of the feature view, which lies in `lake`.
        snapshots: clean tables' versions.
        labels_as_of: labels that had matured by then are used.
        lake: where features are computed normally, or lie already.
        copy: gives an empty lake by name, for a while.
    """
    values = load_view(lake, spec.pipeline, view)
    check = _Check(as_viewed(spec, values), values, snapshots, lake, copy, featurize, run)
    normal = check.features(lake, sorted(partitions), snapshots)
    twice = [one for one in partitions if normal[one.key].rows.num_rows][:count]
    found = [leak for one in twice for leak in check.partition(one, normal[one.key])]
    labelled, more = planted(
        spec=check.spec,
        features={one: normal[one.key].rows for one in sorted(partitions)},
        snapshots=snapshots,
        as_of=labels_as_of,
        lake=lake,
    )
    return LeaksResult(spec.pipeline, view, tuple(one.key for one in twice), labelled, (*found, *more))


@dataclass(frozen=True)
class _Computed:
    """A partition's features, and what they read: source -> its first and last partition, their number, what was restated."""

    rows: pa.Table
    reads: dict[str, Any]


class _Check:
    """One view's features, normally and in copies."""

    def __init__(self, spec, values, snapshots, lake, copy, featurize, run) -> None:
        self.spec, self.values, self.snapshots, self.lake = spec, values, snapshots, lake
        self.copy, self.featurize, self.run = copy, featurize, run
        self.table = tables.features(spec.pipeline, values["id"])
        self.known = {
            name: [
                (key, one.revision, one.known_at)
                for key, every in deliveries(lake, name, snapshots[tables.clean(name)]).items()
                for one in every
            ]
            for name in spec.sources
        }

    def features(
        self, lake: Lake, partitions: Sequence[Partition], snapshots: Mapping[str, int]
    ) -> dict[str, _Computed]:
        """The features by partition."""
        version = self.featurize(lake, partitions, snapshots).versions[self.table]
        table = lake.table(self.table)
        entries = table.entries(version=version)
        columns = [*self.values["output"], "partition_key"]
        return {
            one.key: _Computed(
                table.read(version=version, keys=[(one.key,)], columns=columns), entries[(one.key,)].meta["reads"]
            )
            for one in partitions
        }

    def partition(self, partition: Partition, normal: _Computed) -> list[Leak]:
        """The leaks of one partition whose normal features are given."""
        left = {
            name: remaining(self.spec, use.source, partition, self.known[name])
            for name, use in self.spec.sources.items()
        }
        held = {name: self._rows(name, partition, pairs) for name, pairs in left.items()}
        found = self._own_label(partition, left)
        try:
            plain = self._without(partition, "known", left, held)
        except NotReadyError as error:
            what = ", ".join(error.missing)
            text = f"the cut shows {what}, which was not known by {self._moment(partition)}, or waits for it in vain"
            names = dict.fromkeys(one.split("/")[0] for one in error.missing)
            return [*found, self._leak("cut", partition, text, source=", ".join(names))]
        more = extents(normal.reads, plain.reads)
        shown = "; ".join(text for _, text in more) or "other rows of the same partitions"
        shown = f"at {self._moment(partition)} the cut shows {shown}"
        source = ", ".join(name for name, _ in more)
        differing = self._differing("cut", partition, normal.rows, plain.rows, shown, source)
        if more and not differing:
            differing = [self._leak("cut", partition, shown, source=source)]
        found += differing
        for name, use in self.spec.sources.items():
            if not use.drives and use.source.ahead is not True and held[name].num_rows:
                found += self._untimely(partition, name, left, held, plain.rows)
        return found

    def _rows(self, name: str, partition: Partition, left: set[Pair]) -> pa.Table:
        """What of a source lay there at the cut: of the revisions that did, the rows that say so themselves."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from tasks.lake.schema import arrow_schema

        schema = arrow_schema(tables.clean_columns(self.values["sources"][name]))
        if not left:
            return schema.empty_table()
        clean = self.lake.table(tables.clean(name))
        rows = clean.read(version=self.snapshots[clean.name], keys=sorted(left), columns=schema.names).cast(schema)
        as_of = self.spec.as_of.at(partition)
        waited = [key for key, revision, known_at in self.known[name] if (key, revision) in left and known_at > as_of]
        known = pc.less_equal(rows["_known_at"], pa.scalar(as_of, schema.field("_known_at").type))
        return rows.filter(pc.or_(known, pc.is_in(rows["partition_key"], pa.array(waited, pa.string()))))

    def _without(
        self, partition: Partition, what: str, left: Mapping[str, set[Pair]], held: Mapping[str, pa.Table]
    ) -> _Computed:
        """The partition's features in a lake that holds these rows and nothing else."""
        with self.copy(f"{partition.key}-{what}") as lake:
            key = view_key(self.spec.pipeline, self.values["id"])
            lake.objects.put(key, json.dumps(self.values, separators=(",", ":")).encode())
            versions = {tables.clean(name): self._put(lake, name, left[name], rows) for name, rows in held.items()}
            return self.features(lake, [partition], versions)[partition.key]

    def _put(self, lake: Lake, name: str, left: set[Pair], rows: pa.Table) -> int:
        """A clean table of rows, with what the lake says of their revisions; its version."""
        if not left:
            return -1
        clean = self.lake.table(tables.clean(name))
        known = clean.entries(version=self.snapshots[clean.name])
        counts = dict.fromkeys(left, 0) | _counts(rows)
        return lake.table(clean.name).replace(
            pinned=-1,
            columns=rows.schema,
            partition_by=tables.SOURCE_KEY,
            data=rows,
            entries=[Entry(pair, number, known[pair].meta) for pair, number in sorted(counts.items())],
            run=self.run,
        )

    def _own_label(self, partition: Partition, left: Mapping[str, set[Pair]]) -> list[Leak]:
        """The label of the partition itself must not be there, whatever a manifest says of its delivery."""
        name = self.spec.label.source
        own = set(cut.label_keys(self.spec, partition)) & {key for key, _ in left[name]}
        if not own:
            return []
        text = f"{name}/{min(own)}, the partition's own label, counts as known by {self._moment(partition)}: its manifest says so"
        return [self._leak("label", partition, text, source=name)]

    def _untimely(
        self,
        partition: Partition,
        name: str,
        left: Mapping[str, set[Pair]],
        held: Mapping[str, pa.Table],
        plain: pa.Table,
    ) -> list[Leak]:
        """Whether features hang on rows of a source that tell of a time that had not come."""
        import pyarrow as pa

        rows = held[name]
        masks = self._not_come(partition, name, rows)
        if not masks:
            return []
        column = next(iter(masks))
        gone = sum(masks.values()) > 0
        at = int(masks[column].nonzero()[0][-1])  # the last is the one that is most plainly still to come
        known_at = rows["_known_at"][at].as_py()
        reference = self.spec.sources[name].source.grain == "none"
        said = "they count as known always" if reference else f"it counts as known at {iso(known_at)}"
        what = f"with {column} {rows[column][at].as_py()}" if column else "which had not ended"
        text = f"{int(gone.sum())} rows of {name!r} tell of what was still to come, one in partition {rows['partition_key'][at].as_py()} {what}, and {said}"
        try:
            without = self._without(partition, f"timely-{name}", left, {**held, name: rows.filter(pa.array(~gone))})
        except SqlError as error:
            return [self._leak("time", partition, f"{text}; without them {error}", source=name, column=column)]
        return self._differing("time", partition, plain, without.rows, text, name, column)

    def _not_come(self, partition: Partition, name: str, rows: pa.Table):
        """Which rows tell of a time that had not come, by the column that says so; '' where only the partition can."""
        import numpy as np
        import pyarrow.compute as pc

        from tasks.sql.compared import not_come

        source, as_of = self.spec.sources[name].source, self.spec.as_of.at(partition)
        columns = telling_times(source)
        if columns or source.ahead or source.grain == "none":
            return not_come(rows, columns, as_of, reference=source.grain == "none")
        known = {(key, revision): min(known_at, as_of) for key, revision, known_at in self.known[name]}
        unended = np.zeros(len(rows), dtype=bool)
        for key, revision in _counts(rows):
            if bounds(source, key)[1] > known[key, revision]:
                mine = pc.and_(pc.equal(rows["partition_key"], key), pc.equal(rows["revision"], revision))
                unended |= mine.to_numpy(zero_copy_only=False)
        return {"": unended} if unended.any() else {}

    def _differing(
        self, kind, partition: Partition, first, second, why: str, source: str, column: str = ""
    ) -> list[Leak]:
        from tasks.sql.compared import differences

        gone = "what was not known" if kind == "cut" else "what was still to come"
        found = []
        for one in differences(first, second, self.spec.entity):
            text = f"feature {one.column!r} differs in {one.rows} of {first.num_rows} rows, for {one.entity} it is {one.first!r}, and {one.second!r} without {gone}: {why}"
            found.append(self._leak(kind, partition, text, feature=one.column, source=source, column=column))
        return found

    def _moment(self, partition: Partition) -> str:
        return f"as_of {iso(self.spec.as_of.at(partition))}"

    def _leak(
        self, kind, partition: Partition, text: str, *, feature: str = "", source: str = "", column: str = ""
    ) -> Leak:
        return Leak(kind, partition.key, feature, source, column, f"{self.spec.pipeline} {partition.key}: {text}")


def _counts(rows: pa.Table) -> dict[Pair, int]:
    """How many rows of each partition key and revision there are."""
    found = rows.group_by(list(tables.SOURCE_KEY)).aggregate([([], "count_all")]).to_pylist()
    return {(one["partition_key"], one["revision"]): one["count_all"] for one in found}
