"""Why a prediction is what it is: answered from commit metadata, tables and ledger, at the versions that were recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tasks.absent import matching, whereabouts
from tasks.domain import cut, tables
from tasks.domain.explained import Judged, Promotion, Published, Reason, Trained, WhyResult
from tasks.domain.partition import Partition, instant, iso
from tasks.domain.promotion import LedgerEvent, champion_at
from tasks.domain.spec import PipelineSpec
from tasks.errors import NotFoundError, VacuumedError
from tasks.lake import Entry, Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.versions import load_version, version_key
from tasks.lake.views import load_view
from tasks.view import as_viewed

if TYPE_CHECKING:
    import pyarrow as pa

REASONS = 5
"""Reasons that are computed where none are stored."""


def why(*, spec: PipelineSpec, partition: Partition, entity: Mapping[str, str], lake: Lake, threads: int) -> WhyResult:
    """One prediction of a published partition: row, features, reasons, model, promotion, snapshots, validations.

    Args:
        entity: the entity's columns, each value as text.
        threads: of the model, where reasons are computed.

    Raises:
        NotFoundError: the partition is not published, or does not hold the entity: says where it went.
        DigestError: the model, its descriptor or the ledger is not what was written.
    """
    table = lake.table(tables.predictions(spec.line))
    version = table.version()
    entry = table.entries(version=version).get((partition.key,))
    if entry is None:
        raise NotFoundError(
            f"{spec.pipeline} {partition.key} is not published",
            hint=f"`millrace run pin {spec.pipeline} {partition.key}` says what it waits for, `millrace run score` publishes it",
        )
    meta, notes = entry.meta, []
    viewed = as_viewed(spec, load_view(lake, spec.pipeline, meta["view"]))
    found = matching(table.read(version=version, keys=[entry.key]), entity).to_pylist()
    if not found:
        gone = whereabouts(spec=viewed, partition=partition, meta=meta, entity=entity, lake=lake)
        raise NotFoundError(f"{spec.pipeline} {partition.key} has no prediction of {_spelled(entity)}: {gone}")
    row = {name: value for name, value in found[0].items() if name != "partition_key"}
    stored = row.pop("reasons", None)
    if meta.get("data") == "corrected":
        notes.append(f"published from corrected data; restated since: {', '.join(meta['restated']) or 'nothing'}")
    else:
        row.pop("restated", None)
    descriptor = load_version(lake, spec.line, meta["model_version"], digest=meta["model_digest"])
    model = lake.get_model(meta["model_digest"])  # checked: what the ledger names is what lies there
    table_name = tables.features(spec.pipeline, meta["view"])
    rows = _feature_rows(lake, table_name, meta["inputs"][table_name], entry, entity, notes)
    if stored is None and rows is not None:
        reasons = _computed(rows, model, descriptor, threads)
        origin = f"computed now by TreeSHAP of model {meta['model_digest'][:12]}"
    else:
        reasons = tuple(Reason(**one) for one in stored or ())
        origin = "stored with the prediction" if stored is not None else "none: there are no features to explain"
    return WhyResult(
        pipeline=spec.pipeline,
        partition=partition.key,
        entity=dict(entity),
        prediction=row,
        published=_published(lake, table.name, entry),
        features=_values(rows, spec),
        features_table=f"{table_name}@{meta['inputs'][table_name]}",
        reasons=reasons,
        reasons_from=origin,
        model=_trained(spec.line, descriptor),
        promotion=_promotion(spec.line, meta, lake, notes),
        snapshots=dict(meta["inputs"]),
        validations=tuple(_validations(viewed, partition, meta, table_name, lake, notes)),
        notes=tuple(notes),
    )


def _spelled(entity: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in entity.items())


def _published(lake: Lake, name: str, entry: Entry) -> Published:
    (commit,) = lake.table(name).commits(since=entry.version - 1, version=entry.version)
    meta = entry.meta
    return Published(
        table=name,
        version=entry.version,
        run_id=commit.run_id,
        attempt=commit.attempt,
        actor=commit.actor,
        recorded_at=commit.recorded_at,
        as_of=meta["as_of"],
        cut=meta.get("cut", meta["as_of"]),
        model_version=meta["model_version"],
        chosen=meta.get("chosen", "as-of"),
        in_sample=meta.get("in_sample", False),
        late=tuple(meta["late"]),
        degraded=tuple(meta.get("degraded", ())),
        thin=meta["thin"],
        driving=meta["driving"],
        rows=entry.rows,
        quarantined=meta["quarantined"],
        filtered=dict(meta["filtered"]),
    )


def _feature_rows(lake: Lake, name: str, version: int, entry: Entry, entity, notes: list[str]) -> pa.Table | None:
    """The entity's features as they were scored; None, with a note, where their files were vacuumed."""
    try:
        rows = matching(lake.table(name).read(version=version, keys=[entry.key]), entity)
    except VacuumedError as error:
        notes.append(f"the features that were scored are no longer kept: {error.message}")
        return None
    return rows if rows.num_rows else None


def _values(rows: pa.Table | None, spec: PipelineSpec) -> dict[str, Any] | None:
    if rows is None:
        return None
    key = {*spec.entity, "partition_key"}
    return {name: value for name, value in rows.to_pylist()[0].items() if name not in key}


def _computed(rows: pa.Table, model: bytes, descriptor: Mapping[str, Any], threads: int) -> tuple[Reason, ...]:
    from tasks.compute.encoding import Encoding, encode
    from tasks.compute.predict import Predictor
    from tasks.compute.reasons import top_reasons

    encoding = Encoding.from_dict(descriptor["encoding"])
    predictor = Predictor(model, encoding=encoding, threads=threads)
    (batch,) = rows.slice(0, 1).combine_chunks().to_batches()
    matrix = encode(batch, encoding)
    best = predictor.predict(matrix).argmax(axis=1) if descriptor.get("classes") else None
    found = top_reasons(predictor.contributions(matrix, chosen=best), batch, encoding, count=REASONS)
    return tuple(Reason(**one) for one in found.to_pylist()[0])


def _trained(line: str, descriptor: Mapping[str, Any]) -> Trained:
    plain = ("version", "digest", "view", "run", "training", "as_of", "rows", "rounds", "objective", "device", "way")
    return Trained(
        **{name: descriptor[name] for name in plain},
        descriptor=version_key(line, descriptor["version"]),
        train=tuple(descriptor["train"]),
        holdout=tuple(descriptor["holdout"]),
        inputs=dict(descriptor["inputs"]),
        environment=dict(descriptor.get("environment", {})),
    )


def _promotion(line: str, meta: Mapping[str, Any], lake: Lake, notes: list[str]) -> Promotion | None:
    """The last event up to the partition's as_of that made its model champion."""
    version, moment = meta["model_version"], instant(meta["as_of"])
    ledger = lake.ledger(line)
    written = ledger.events()
    events = [LedgerEvent.from_dict(one) for one in written]
    now = champion_at(events, moment)
    if now is None or now.version != version:
        notes.append(
            f"the ledger now names {f'version {now.version}' if now else 'no version'} as champion at this as_of, not version {version}"
        )
    mine = [
        (one, raw)
        for one, raw in zip(events, written, strict=True)
        if one.to_model is not None
        and one.to_model.version == version
        and one.to_model != one.from_model
        and one.effective_from <= moment
    ]
    if not mine:
        notes.append(f"no event of the ledger made version {version} champion by this as_of")
        return None
    event, raw = mine[-1]
    return Promotion(
        event=f"ledger/{ledger.name}/{event.number:06d}.json",
        number=event.number,
        digest=raw["digest"],
        verdict=event.verdict,
        actor=event.actor,
        run_id=event.run_id,
        reason=event.reason,
        training=event.training,
        recorded_at=iso(event.recorded_at),
        effective_from=iso(event.effective_from),
        evidence=event.evidence,
        evidence_at=f"evidence/{event.evidence}.json",
        seen=_evidence(event.evidence, lake, notes),
    )


def _evidence(digest: str, lake: Lake, notes: list[str]) -> dict[str, Any] | None:
    try:
        text = lake.objects.get(f"evidence/{digest}.json")
    except FileNotFoundError:
        notes.append(f"evidence {digest[:12]} is not in the lake")
        return None
    if hashlib.sha256(text).hexdigest() != digest:
        notes.append(f"evidence {digest[:12]} is not what was written: its digest is another")
        return None
    return json.loads(text)


def _validations(
    spec: PipelineSpec,
    partition: Partition,
    meta: Mapping[str, Any],
    features: str,
    lake: Lake,
    notes: list[str],
) -> Iterator[Judged]:
    """What the contracts said of every source partition that the cut saw, source by source."""
    inputs = meta["inputs"]
    delivered = {name: deliveries(lake, name, inputs[tables.clean(name)]) for name in spec.sources}
    if meta.get("data") == "corrected":
        delivered = cut.corrected(spec, delivered)
    seen = cut.visible_sources(spec, partition, delivered)
    scored = lake.table(features).entries(version=inputs[features])[partition.key,]
    if cut.digest_of(seen) != scored.meta["visible"]:
        notes.append("the declarations of the sources have changed: by today's, other deliveries were visible")
    for name, one in seen.items():
        entries = lake.table(tables.clean(name)).entries(version=inputs[tables.clean(name)])
        quarantine = lake.table(tables.quarantine(name))
        named = [entries[pair].meta["inputs"][quarantine.name] for pair in one.revisions]
        # a clean revision is final, so the newest that is named says of each what its own says
        judged = quarantine.entries(version=max(named)) if named else {}
        for pair in one.revisions:
            meta, outcome = entries[pair].meta, judged[pair].meta["outcome"]
            yield Judged(
                source=name,
                key=pair[0],
                revision=pair[1],
                known_at=meta["known_at"],
                file_digest=meta["digest"],
                status=outcome["status"],
                rows_in=meta["rows_in"],
                clean=entries[pair].rows,
                quarantined=meta["quarantined"],
                reason=outcome["reason"],
                suite=meta["suite"],
                docs=meta["docs"],
                statistics=judged[pair].meta["statistics"],
            )
