"""Features snapshot + model version -> predictions: one atomic commit replaces exactly the partitions.

Each partition names the model version and digest and every table version that it read. Rows of the
driving source in = rows scored + quarantined + filtered; a sum that does not hold publishes nothing.
Rows are read, predicted and written as they come: memory follows `batch_rows`, not the partitions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.domain import cut, tables
from tasks.domain.partition import Partition, instant
from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at
from tasks.domain.results import FeaturizeResult, PinnedPartition, PinResult, Scored, ScoreResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import PopulationError, SupersededError
from tasks.lake import Entry, Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.versions import load_version

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.compute.predict import Predictor
    from tasks.lake.log import Key

FILTERED = "not returned by features.sql"


def score(
    *,
    spec: PipelineSpec,
    pin: PinResult,
    features: FeaturizeResult,
    lake: Lake,
    run: RunRef,
    threads: int,
    batch_rows: int,
    part: bool = False,
) -> ScoreResult:
    """Publish the predictions of the pinned partitions.

    A partition that somebody else published since it was pinned, or that got another champion, is left
    alone (status superseded).

    Args:
        threads: threads that the model may use.
        batch_rows: rows that are read, predicted and written at a time.
        part: whether others score the rest of what was asked for: all of these superseded is then no error.

    Raises:
        SupersededError: that was so for all of them.
        PopulationError: a driving row is not accounted for.
        DigestError: a model's bytes are not what its digest names.
    """
    from tasks.lake.racing import replace_untouched
    from tasks.lake.schema import arrow_schema

    started = time.perf_counter()
    table = lake.table(tables.predictions(spec.line))
    population = _Population(spec, pin, features, lake, batch_rows)
    entries: dict[Key, Entry] = {}
    for one in pin.partitions:
        name = tables.features(spec.pipeline, one.model.view)
        found = lake.table(name).entries(version=features.versions[name]).get((one.key,))
        rows = found.rows if found else 0  # what is written is counted again before the commit
        meta = _provenance(spec, one, pin, features) | population.check(one.key, rows)
        entries[one.key,] = Entry((one.key,), rows, meta)
    # Before the write begins: a model that is not what its digest names makes no table.
    models = {model: _load(spec, model, lake, threads) for model in {one.model for one in pin.partitions}}
    columns = tables.predictions_columns(
        {name: spec.driver.columns[name] for name in spec.entity},
        classes=spec.train.objective == "multi:softprob",
        reasons=spec.score.reasons > 0,
        corrected=pin.data == "corrected",
    )
    try:
        version, published = replace_untouched(
            table,
            pinned=pin.snapshots[table.name],
            columns=arrow_schema(columns),
            partition_by=tables.PIPELINE_KEY,
            stream=lambda keys: _predictions(spec, models, pin, keys, features, lake, batch_rows),
            entries=entries,
            run=run,
            confirm=lambda: _still_championed(spec, pin, lake),
            took=lambda: {
                "featurize": features.seconds,
                "computed": features.computed,
                "score": time.perf_counter() - started,
                "threads": threads,
                "device": next(iter(models.values())).predictor.device,
            },
        )
    except SupersededError:
        if not part:
            raise
        version, published = table.version(), frozenset()
    outcomes = tuple(_outcome(entries[one.key,], (one.key,) in published) for one in pin.partitions)
    return ScoreResult(spec.pipeline, version, outcomes, pin.skipped)


def _still_championed(spec: PipelineSpec, pin: PinResult, lake: Lake) -> list[Key]:
    """The partitions whose model is champion at their as_of still: a promotion may have come since the pin.

    A model that was chosen otherwise stays what was asked for.

    A promotion that comes after the commit sees what is published, and takes effect after it.
    Limitation: one that read the predictions before the commit and is recorded after this check is not seen; the
    partition is published and due again, see `tasks.domain.published`.
    """
    events = [LedgerEvent.from_dict(event) for event in lake.ledger(spec.line).events()]
    still = [
        one for one in pin.partitions if one.chosen != "as-of" or champion_at(events, instant(one.as_of)) == one.model
    ]
    if not still:
        raise SupersededError(
            f"{spec.pipeline} {pin.partitions[0].key}: another version became champion since it was pinned",
            hint=f"nothing was published; run it again: `millrace run score {spec.pipeline} {pin.partitions[0].key}`",
        )
    return [(one.key,) for one in still]


def _predictions(
    spec: PipelineSpec,
    models: Mapping[ModelRef, _Model],
    pin: PinResult,
    keys: Sequence[Key],
    features: FeaturizeResult,
    lake: Lake,
    batch_rows: int,
) -> Iterator[tuple[Key, pa.RecordBatch]]:
    """The predictions of partitions as they come, each partition's together, sorted by entity as its features are."""
    from tasks.compute.scoring import score_batches

    scored_by = {(one.key,): one.model for one in pin.partitions}
    for ref in sorted({scored_by[key] for key in keys}, key=lambda ref: ref.version):
        model = models[ref]
        name = tables.features(spec.pipeline, ref.view)
        rows = lake.table(name).batches(
            version=features.versions[name],
            keys=[key for key in keys if scored_by[key] == ref],
            columns=list(dict.fromkeys([*spec.entity, *model.predictor.encoding.columns])),
            batch_rows=batch_rows,
        )
        found = score_batches(
            rows,
            model.predictor,
            entity=spec.entity,
            classes=model.classes,
            model_version=ref.version,
            reasons=spec.score.reasons,
        )
        yield from _marked(found, pin) if pin.data == "corrected" else found


def _marked(batches: Iterator[tuple[Key, pa.RecordBatch]], pin: PinResult) -> Iterator[tuple[Key, pa.RecordBatch]]:
    """The batches with the column that says whether their partition's inputs were restated."""
    import pyarrow as pa

    restated = {(one.key,): bool(one.restated) for one in pin.partitions}
    for key, batch in batches:
        yield key, batch.append_column("restated", pa.repeat(restated[key], batch.num_rows))


@dataclass(frozen=True)
class _Model:
    """A version as it scores: its predictor, and its classes' labels in the model's order."""

    predictor: Predictor
    classes: tuple[str, ...]


def _load(spec: PipelineSpec, model: ModelRef, lake: Lake, threads: int) -> _Model:
    from tasks.compute.encoding import Encoding
    from tasks.compute.predict import Predictor, scoring_device

    descriptor = load_version(lake, spec.line, model.version, digest=model.digest)
    encoding = Encoding.from_dict(descriptor["encoding"])
    predictor = Predictor(lake.get_model(model.digest), encoding=encoding, threads=threads, device=scoring_device())
    return _Model(predictor, tuple(descriptor.get("classes") or ()))


class _Population:
    """Where the driving source's rows went, counted in raw, quarantine and clean independently of the features."""

    def __init__(
        self, spec: PipelineSpec, pin: PinResult, features: FeaturizeResult, lake: Lake, batch_rows: int
    ) -> None:
        self.spec = spec
        self.lake = lake
        self.batch_rows = batch_rows
        self.partitions = sorted((spec.partition(one.key) for one in pin.partitions), key=lambda one: one.start)
        self.clean_version = pin.snapshots[tables.clean(spec.driver.name)]
        self.clean = lake.table(tables.clean(spec.driver.name)).entries(version=self.clean_version)
        self.deliveries = deliveries(lake, spec.driver.name, self.clean_version)
        if pin.data == "corrected":
            self.deliveries = cut.corrected(spec, {spec.driver.name: self.deliveries})[spec.driver.name]
        self.featurized = {one.key: one for one in features.partitions}
        self.entries: dict[tuple[str, int], dict] = {}
        self.inside: dict[tuple, Counter[str]] = {}  # many hours are counted in one day's delivery, at once

    def check(self, key: str, rows: int) -> dict[str, Any]:
        """The counts of one partition of which `rows` were scored.

        Raises:
            PopulationError: a row is not accounted for.
        """
        driver, partition = self.spec.driver, self.spec.partition(key)
        seen = cut.visible(self.spec, driver, partition, self.deliveries)
        driving = set(cut.driving_keys(self.spec, partition))
        pairs = [pair for pair in seen.revisions if pair[0] in driving]
        # Each revision is counted as its own clean commit saw raw and quarantine.
        by_version: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for pair in pairs:
            for name, version in self.clean[pair].meta["inputs"].items():
                by_version.setdefault((name, version), []).append(pair)
        counts = dict.fromkeys((tables.raw(driver.name), tables.quarantine(driver.name)), 0)
        for (name, version), found in by_version.items():
            counts[name] += self._rows(name, version, found, partition)
        came, rejected = counts.values()
        accepted = self._rows(tables.clean(driver.name), self.clean_version, pairs, partition)
        featurized = self.featurized.get(key)
        computed = (featurized.entities, featurized.rows) if featurized else None
        if came != accepted + rejected or accepted < rows or computed != (accepted, rows):
            raise PopulationError(
                f"{self.spec.pipeline} {key}: {came} rows of {driver.name} came in, {rows} scored + {rejected} quarantined + {accepted - rows} filtered do not add up, or the features say otherwise: {computed}",
                hint="nothing was published; look at the quarantine and at features.sql",
            )
        filtered = {FILTERED: accepted - rows} if accepted > rows else {}
        return {"driving": came, "quarantined": rejected, "filtered": filtered}

    def _rows(self, name: str, version: int, pairs: list[tuple[str, int]], partition: Partition) -> int:
        """Rows that belong to the partition: whole deliveries, or those with their time inside it."""
        table, time = self.lake.table(name), self.spec.driving_time
        if not pairs:
            return 0
        if time is None:
            if (name, version) not in self.entries:
                self.entries[name, version] = table.entries(version=version)
            return sum(self.entries[name, version][pair].rows for pair in pairs)
        at = (name, version, tuple(pairs))
        if at not in self.inside:
            moments = table.batches(version=version, keys=pairs, columns=[time], batch_rows=self.batch_rows)
            self.inside[at] = _count_inside(self.partitions, (batch.column(0) for _, batch in moments))
        return self.inside[at][partition.key]


def _count_inside(partitions: Sequence[Partition], moments: Iterator[pa.Array]) -> Counter[str]:
    """Rows by partition, from their moments; partitions are in order, none overlaps another."""
    import numpy as np
    import pyarrow as pa

    def instants(values: list) -> np.ndarray:
        return pa.array(values, pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()

    starts, ends = instants([one.start for one in partitions]), instants([one.end for one in partitions])
    counts = np.zeros(len(partitions), dtype=np.int64)
    for column in moments:
        found = column.drop_null().cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
        place = np.searchsorted(starts, found, side="right") - 1
        place = place[(place >= 0) & (found < ends[place])]
        counts += np.bincount(place, minlength=len(partitions))
    return Counter({one.key: int(count) for one, count in zip(partitions, counts, strict=True) if count})


def _provenance(spec: PipelineSpec, one: PinnedPartition, pin: PinResult, features: FeaturizeResult) -> dict[str, Any]:
    return {
        "as_of": one.as_of,
        "cut": one.cut or one.as_of,
        "model_version": one.model.version,
        "model_digest": one.model.digest,
        "view": one.model.view,
        "inputs": {
            **{tables.clean(name): pin.snapshots[tables.clean(name)] for name in spec.sources},
            tables.features(spec.pipeline, one.model.view): features.versions[
                tables.features(spec.pipeline, one.model.view)
            ],
        },
        "late": list(one.late),
        "thin": one.thin,
        # a model that is not the champion of the day is known by this, and by its version
        "chosen": one.chosen,
        **({"in_sample": True} if one.in_sample else {}),
        **({"degraded": list(one.degraded)} if one.degraded else {}),
        **({"data": pin.data, "restated": list(one.restated)} if pin.data == "corrected" else {}),
    }


def _outcome(entry: Entry, published: bool) -> Scored:
    meta = entry.meta
    return Scored(
        entry.key[0],
        meta["driving"],
        entry.rows,
        meta["quarantined"],
        sum(meta["filtered"].values()),
        meta["model_version"],
        "published" if published else "superseded",
    )
