"""Realised performance: what was published against what came true, and against three simpler policies.

The same labelled rows judge every policy: the gated line (the published predictions), always-refit (each
training's model from the moment it could score), the first champion frozen, and its constant; where no version
was ever champion, there is nothing to compare with. Partitions that
one of these models was trained on are left out for all of them, and counted. Intervals resample whole days, or
partitions where those are longer, since rows of a day hang together.

Limitation: labels and scores of the whole range are held, about 60 bytes a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.domain import cut, tables
from tasks.domain.blocks import blocks
from tasks.domain.partition import Partition
from tasks.domain.promotion import LedgerEvent, ModelRef
from tasks.domain.results import FeaturizeResult, Performance, Period, ReportResult
from tasks.domain.spec import PipelineSpec
from tasks.errors import TrainingError, UsageError
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.versions import load_version
from tasks.line import trained_on

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

REPEATS = 1000
"""Bootstrap repeats, as of the gate."""


@dataclass(frozen=True)
class Policies:
    """Which model each policy scores a published partition with.

    Attributes:
        published: partition key -> version that scored it.
        refit, frozen: partition key -> the model of that policy; empty where no version was ever champion.
        in_sample: the model that was trained on them -> number of published partitions that are left out of the others.
    """

    published: dict[str, int]
    refit: dict[str, ModelRef]
    frozen: dict[str, ModelRef]
    in_sample: dict[str, int]

    @property
    def views(self) -> dict[str, list[str]]:
        """View id -> keys of the partitions whose features the policies need besides what is published."""
        found: dict[str, dict[str, None]] = {}
        for policy in (self.refit, self.frozen):
            for key, model in policy.items():
                if model.version != self.published[key]:
                    found.setdefault(model.view, {})[key] = None
        return {view: list(keys) for view, keys in found.items()}


def policies(*, spec: PipelineSpec, wanted: Sequence[Partition], lake: Lake) -> Policies:
    """What of the partitions is published, and the models of the simpler policies.

    Raises:
        UsageError: none is.
    """
    entries = lake.table(tables.predictions(spec.line)).entries()
    published = [one for one in wanted if (one.key,) in entries]
    if not published:
        raise UsageError(
            f"{spec.line}: none of the {len(wanted)} partitions from {wanted[0]} to {wanted[-1]} is published",
            hint=f"`millrace backfill {spec.pipeline}` or `millrace backtest {spec.pipeline}` publishes some",
        )
    events = [LedgerEvent.from_dict(event) for event in lake.ledger(spec.line).events()]
    first = next((event.to_model for event in events if event.to_model), None)
    newest = {event.training: event.candidate for event in events if event.training}
    trained = sorted(
        ((spec.effective_from(spec.training(key)), model) for key, model in newest.items()), key=lambda one: one[0]
    )
    refit, frozen = {}, {}
    for one in published if first else ():
        earlier = [model for moment, model in trained if moment <= spec.as_of.at(one)]
        refit[one.key] = earlier[-1] if earlier else first
        frozen[one.key] = first
    versions = {one.key: entries[one.key,].meta["model_version"] for one in published}
    left = _in_sample(spec, published, {"published": versions, **_numbers(refit=refit, frozen=frozen)}, lake)
    kept = ({key: value for key, value in each.items() if key not in left} for each in (versions, refit, frozen))
    return Policies(*kept, dict(Counter(left.values())))


def _numbers(**policies: dict[str, ModelRef]) -> dict[str, dict[str, int]]:
    return {name: {key: model.version for key, model in models.items()} for name, models in policies.items()}


def _in_sample(
    spec: PipelineSpec, published: Sequence[Partition], policies: dict[str, dict[str, int]], lake: Lake
) -> dict[str, str]:
    """Key of each partition that a policy's model was trained on -> which one; the first policy is named."""
    numbers = {number for versions in policies.values() for number in versions.values()}
    known = {number: load_version(lake, spec.line, number) for number in sorted(numbers)}
    found: dict[str, str] = {}
    for policy, versions in policies.items():
        for one in published:
            number = versions.get(one.key)
            if number is not None and one.key not in found and trained_on(spec, known[number], one):
                found[one.key] = f"version {number} ({policy})"
    return found


def report(
    *,
    spec: PipelineSpec,
    wanted: Sequence[Partition],
    chosen: Policies,
    features: FeaturizeResult | None,
    lake: Lake,
    now: datetime,
    threads: int,
) -> ReportResult:
    """Judge what was published by the labels that are matured now.

    Args:
        wanted: consecutive partitions, in order.
        chosen: from `policies`, of the same partitions.
        features: of `chosen.views`; None where there are none.

    Raises:
        TrainingError: two models know different classes, or their views keep different rows.
    """
    judge = _Judge(spec, chosen, features, lake, now, threads)
    parts = [judge.month(name, keys) for name, keys in _months(wanted, chosen)]
    parts = [part for part in parts if len(part.label)]
    rows = _joined(parts)
    months = [_period(spec, part, part.month) for part in parts]
    versions = [
        _period(spec, rows.of(rows.version == number), f"version {number}") for number in sorted(set(rows.version.tolist()))
    ] if parts else []  # fmt: skip
    return ReportResult(
        pipeline=spec.pipeline,
        line=spec.line,
        metric=spec.gate.metric,
        confidence=spec.gate.confidence,
        first=wanted[0].key,
        last=wanted[-1].key,
        published=len(chosen.published) + sum(chosen.in_sample.values()),
        in_sample=chosen.in_sample,
        unlabelled=judge.dropped,
        months=tuple(months),
        versions=tuple(versions),
        total=_period(spec, rows, "all") if parts else None,
    )


def _months(wanted: Sequence[Partition], chosen: Policies) -> Iterator[tuple[str, list[str]]]:
    """Month by local time, and its published keys."""
    found: dict[str, list[str]] = {}
    for one in wanted:
        if one.key in chosen.published:
            found.setdefault(f"{one.local_start:%Y-%m}", []).append(one.key)
    yield from found.items()


@dataclass(frozen=True)
class _Rows:
    """Labelled rows: arrays of one length.

    Attributes:
        label: as the metric wants it.
        partition: its key.
        block: what is resampled as one.
        version: that scored the published prediction.
        scores: policy -> predictions, shape (rows,) or (rows, classes).
        month: the month's name; empty for several.
    """

    label: np.ndarray
    partition: np.ndarray
    block: np.ndarray
    version: np.ndarray
    scores: dict[str, np.ndarray]
    month: str = ""

    def of(self, mask: np.ndarray) -> _Rows:
        scores = {name: values[mask] for name, values in self.scores.items()}
        return _Rows(self.label[mask], self.partition[mask], self.block[mask], self.version[mask], scores)


def _joined(parts: Sequence[_Rows]) -> _Rows | None:
    import numpy as np

    if not parts:
        return None
    return _Rows(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("label", "partition", "block", "version")
        ),
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
    )


class _Judge:
    """Reads a month's labelled rows and has every policy predict them."""

    def __init__(
        self,
        spec: PipelineSpec,
        chosen: Policies,
        features: FeaturizeResult | None,
        lake: Lake,
        now: datetime,
        threads: int,
    ) -> None:
        self.spec, self.chosen, self.features, self.lake = spec, chosen, features, lake
        self.now, self.threads = now, threads
        self.dropped: dict[str, int] = {}
        self._predictions = lake.table(tables.predictions(spec.line))
        self._version = self._predictions.version()
        clean = lake.table(tables.clean(spec.label.source))
        self._clean, self._clean_version = clean, clean.version()
        self._delivered = deliveries(lake, spec.label.source, self._clean_version)
        self._several = spec.train.objective == "multi:softprob"
        self._descriptors: dict[int, dict[str, Any]] = {}
        self._classes: tuple[str, ...] | None = None

    def month(self, name: str, keys: list[str]) -> _Rows:
        import numpy as np

        for key in keys:
            self._check_classes(self.chosen.published[key])
        column = "scores" if self._several else "score"
        read = self._predictions.read(
            version=self._version,
            keys=[(key,) for key in keys],
            columns=[*self.spec.entity, "partition_key", column, "model_version"],
        )
        labels = self._labels(keys)
        found = self._label(read, labels, keys)
        for reason, count in found.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        table = found.table
        partition = table["partition_key"].to_numpy(zero_copy_only=False)
        block = np.array(blocks(self.spec, partition.tolist()), dtype=object)
        given = table["label"].to_numpy(), partition, block, table["model_version"].to_numpy()
        gated = np.asarray(table[column].to_pylist() if self._several else table[column].to_numpy(), dtype="float64")
        scores = {"gated": gated}
        if not self.chosen.frozen:
            return _Rows(*given, scores, name)
        for policy in ("refit", "frozen"):
            scores[policy] = self._policy(getattr(self.chosen, policy), table, partition, gated, labels)
        constant = np.asarray(
            self._descriptor(next(iter(self.chosen.frozen.values())).version)["constant"], dtype="float64"
        )
        scores["constant"] = np.broadcast_to(constant, gated.shape)
        return _Rows(*given, scores, name)

    def _policy(self, models: dict[str, ModelRef], table: pa.Table, partition, gated, labels: pa.Table) -> np.ndarray:
        """What a policy predicts of the rows; where it agrees with what was published, that."""
        found = gated.copy()
        keys = dict.fromkeys(partition.tolist())
        by_model: dict[ModelRef, list[str]] = {}
        for key in keys:
            if models[key].version != self.chosen.published[key]:
                by_model.setdefault(models[key], []).append(key)
        for model, mine in by_model.items():
            import numpy as np
            import pyarrow as pa

            mask = np.isin(partition, mine)
            found[mask] = self._predicted(model, mine, table.filter(pa.array(mask)), labels)
        return found

    def _predicted(self, model: ModelRef, keys: list[str], rows: pa.Table, labels: pa.Table) -> np.ndarray:
        from tasks.compute.encoding import Encoding, encode
        from tasks.compute.predict import predict

        self._check_classes(model.version)
        name = tables.features(self.spec.pipeline, model.view)
        read = self.lake.table(name).read(version=self.features.versions[name], keys=[(key,) for key in keys])
        table = self._label(read, labels, keys).table
        entity = [*self.spec.entity, "partition_key"]
        if not table.select(entity).equals(rows.select(entity)):
            raise TrainingError(
                f"{self.spec.line}: the view of version {model.version} keeps other rows of {keys[0]} to {keys[-1]} than were published",
                hint="let every feature SQL keep the same entities, or report over a range of one view",
            )
        encoding = Encoding.from_dict(self._descriptor(model.version)["encoding"])
        matrix = encode(table, encoding)
        return predict(self.lake.get_model(model.digest), matrix, encoding=encoding, threads=self.threads)

    def _labels(self, keys: list[str]) -> pa.Table:
        first, last = (self.spec.partition(key) for key in (keys[0], keys[-1]))
        seen = cut.visible_labels(self.spec, first, last, self.now, self._delivered)
        return self._clean.read(version=self._clean_version, keys=list(seen.revisions))

    def _label(self, rows: pa.Table, labels: pa.Table, keys: list[str]):
        from tasks.sql.labels import join_labels

        label = self.spec.label
        return join_labels(
            features=rows,
            labels=labels,
            keys={key: cut.label_keys(self.spec, self.spec.partition(key)) for key in keys},
            entity=self.spec.entity,
            label_sql=label.sql,
            unlabelled=label.unlabelled,
            objective=self.spec.train.objective,
            classes=self._classes,
        )

    def _descriptor(self, version: int) -> dict[str, Any]:
        if version not in self._descriptors:
            self._descriptors[version] = load_version(self.lake, self.spec.line, version)
        return self._descriptors[version]

    def _check_classes(self, version: int) -> None:
        if not self._several:
            return
        classes = tuple(self._descriptor(version)["classes"])
        if self._classes not in (None, classes):
            raise TrainingError(
                f"{self.spec.line}: version {version} knows other classes than those before it",
                hint="report over a range in which the classes were the same",
            )
        self._classes = classes


def _period(spec: PipelineSpec, rows: _Rows, name: str) -> Period:
    import numpy as np

    found = tuple(_performance(spec, rows, policy) for policy in rows.scores)
    return Period(
        name, len(np.unique(rows.partition)), len(rows.label), tuple(sorted(set(rows.version.tolist()))), found
    )


def _performance(spec: PipelineSpec, rows: _Rows, policy: str) -> Performance:
    """A policy's metric and the gated line's lead over it; no number where the rows give none."""
    import numpy as np

    from tasks.compute.metrics import UNBOUNDED, block_bootstrap, metric, paired_block_bootstrap

    name, confidence = spec.gate.metric, spec.gate.confidence
    how = {"repeats": REPEATS, "confidence": confidence, "seed": spec.train.seed}
    if np.isnan(metric(name, rows.label, rows.scores[policy])):
        return Performance(policy, *[None] * 6, "")
    one = block_bootstrap(name, rows.label, rows.scores[policy], rows.block, **how)
    both = paired_block_bootstrap(name, rows.label, rows.scores["gated"], rows.scores[policy], rows.block, **how)
    says = "ahead" if both.low > 0 else "behind" if both.high < 0 else ""
    bounds = [None if abs(end) == UNBOUNDED else end for end in (one.low, one.high, both.low, both.high)]
    return Performance(policy, one.value, *bounds[:2], float(both.gain), *bounds[2:], says)
