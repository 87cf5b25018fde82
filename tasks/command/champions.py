"""`millrace ledger`, `promote` and `rollback`: who is champion when and why, and a person's say in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.command import output
from tasks.domain.partition import instant, iso
from tasks.domain.promotion import LedgerEvent, ModelRef, deciding
from tasks.domain.published import Published
from tasks.domain.reigns import reigns
from tasks.errors import (
    NotReadyError,
    PartitionKeyError,
    RegistryError,
    ServiceError,
    SupersededError,
    UsageError,
)

if TYPE_CHECKING:
    from tasks.command.steps import Steps
    from tasks.domain.leaks import LeaksResult
    from tasks.domain.results import Data, RollbackResult
    from tasks.domain.spec import PipelineSpec
    from tasks.lake import Lake

_NOTHING = "-"


def ledger(options: argparse.Namespace) -> int:
    from tasks.line import IN_ORDER, project, read_events

    steps, spec, lake = _open(options.pipeline)
    events = read_events(spec, lake)
    # a question about a day, an event or the past is not MLflow's
    whole = all(one is None for one in (options.at, options.event, options.known_at))
    alias = project(spec, events, steps.registry()) if options.reconcile else _seen(spec, events, steps, ask=whole)
    if options.event is not None:
        value, text = _one(spec, events, options.event, steps.settings.lake_uri)
    elif options.at is not None:
        value, text = _at(spec, lake, events, options.at, options.known_at)
    else:
        value, text = _all(events, options.known_at)
    if alias:
        value |= {"alias": alias}
        text += f"\nalias: {alias}" if options.reconcile or alias not in IN_ORDER else ""
    output.emit(value, text, as_json=options.json)
    return 0


def _seen(spec: PipelineSpec, events: Sequence[LedgerEvent], steps: Steps, *, ask: bool) -> str:
    """Where MLflow's alias points, if it answers: the ledger does without."""
    from tasks.line import look

    try:
        return look(spec, events, steps.registry()) if ask else ""
    except ServiceError:  # there is none
        return ""
    except RegistryError as error:
        return f"unknown: {error.message}"


def promote(options: argparse.Namespace) -> int:
    from tasks.appoint import appoint
    from tasks.line import project

    steps, spec, lake = _open(options.pipeline)
    registry = steps.registry()
    registry.ping()  # a promotion that MLflow can't show is not made; a rollback is
    result, events = appoint(
        spec=spec,
        version=options.version,
        why=options.why,
        lake=lake,
        run=steps.run,
        check=_check(steps, spec, lake, options.despite_leaks),
        unbar=options.unbar,
    )
    result = replace(result, alias=project(spec, events, registry))
    text = f"{spec.pipeline}: version {result.champion} is champion for what is known at {result.effective_from} and later (event {result.number}: {result.reason}); alias: {result.alias}"
    output.emit(result.to_dict(), text, as_json=options.json)
    return 0


def rollback(options: argparse.Namespace) -> int:
    from tasks.rollback import rollback as take_back
    from tasks.rollback import to_repair

    steps, spec, lake = _open(options.pipeline)
    result, events = take_back(
        spec=spec,
        why=options.why,
        lake=lake,
        run=steps.run,
        check=_check(steps, spec, lake, options.despite_leaks),
        bad=options.bad,
        to=options.to,
        repair=options.repair,
    )
    output.say(_told(spec, result))
    result = replace(result, alias=_projected(spec, events, steps))
    if options.repair:
        wanted = to_repair(spec, result.version, events, lake)
        reasons = _score_again(steps, spec, lake, wanted)
        still = to_repair(spec, result.version, events, lake)
        left = tuple((key, reasons.get(key, "another run was at it")) for key in still)
        repaired = tuple(key for key in wanted if key not in set(still))
        corrected = _by_data(spec, lake, repaired).get("corrected", ())
        result = replace(result, repaired=repaired, corrected=tuple(corrected), left=tuple(_skipped(left)))
    output.emit(result.to_dict(), _report(spec, result), as_json=options.json)
    return 1 if result.left else 0


def _open(pipeline: str) -> tuple[Steps, PipelineSpec, Lake]:
    from tasks.command.handlers import identity
    from tasks.command.names import known_pipeline
    from tasks.command.steps import Steps
    from tasks.lake import open_lake
    from tasks.settings import load_pipeline, load_settings

    settings = load_settings()
    known_pipeline(settings, pipeline)
    steps = Steps(settings, identity(), output.say, lambda done, total: None, force=True)
    return steps, load_pipeline(settings.config, pipeline), open_lake(settings)


def _check(steps: Steps, spec: PipelineSpec, lake: Lake, despite: bool) -> Callable[[Mapping[str, Any]], LeaksResult]:
    """Looks for leaks in a version's features; raises LeakError unless a person insists."""
    from tasks.command.leaks import version_without_leaks

    return partial(version_without_leaks, steps.settings, steps.run, spec, lake, despite=despite, say=output.say)


def _score_again(steps: Steps, spec: PipelineSpec, lake: Lake, keys: Sequence[str]) -> dict[str, str]:
    """Score partitions with their champions of now, as `millrace run score --force` does; why some were left out.

    Each from the data that it was published from, so that no correction is lost.
    """
    reasons: dict[str, str] = {}
    for data, some in _by_data(spec, lake, keys).items():
        with output.progress(f"repair {spec.pipeline} ({data} data)") as show:
            steps.progress, steps.data = show, data
            try:
                found: Any = steps.scoring("score", spec, lake, [spec.partition(key) for key in some])
            except NotReadyError as error:
                reasons |= dict.fromkeys(some, f"waits for {', '.join(error.missing)}")
            except SupersededError as error:  # who was first has scored them with their champions, as this would have
                reasons |= dict.fromkeys(some, error.message)
            else:
                reasons |= {one.key: one.reason for one in found.skipped}
    return reasons


def _by_data(spec: PipelineSpec, lake: Lake, keys: Sequence[str]) -> dict[Data, list[str]]:
    """Published partitions, by what they were published from."""
    from tasks.line import published

    entries = published(spec, lake) if keys else {}
    found: dict[Data, list[str]] = {}
    for key in keys:
        found.setdefault(Published.of(entries[key].meta).data, []).append(key)
    return found


def _projected(spec: PipelineSpec, events: Sequence[LedgerEvent], steps: Steps) -> str:
    """The alias put right where MLflow is there: a rollback does without."""
    from tasks.line import project

    try:
        return project(spec, events, steps.registry())
    except (RegistryError, ServiceError) as error:
        output.say(
            f"millrace: {error.message}; the ledger is what counts, `millrace ledger {spec.pipeline} --reconcile` moves the alias"
        )
        return "behind: MLflow was not there"


def _skipped(pairs: Sequence[tuple[str, str]]):
    from tasks.domain.results import Skipped

    return [Skipped(key, reason) for key, reason in pairs]


def _told(spec: PipelineSpec, result: RollbackResult) -> str:
    how = "was rolled back already" if result.resumed else "is rolled back"
    since = f"version {result.champion} is champion"
    return f"{spec.pipeline}: version {result.version} {how} (event {result.number}), {since}; it had scored {len(result.scored)} published partitions"


def _report(spec: PipelineSpec, result: RollbackResult) -> str:
    lines = [
        f"event {result.number}: version {result.version} is rolled back and barred ({result.reason})",
        f"takes effect from {result.effective_from}; version {result.champion} is champion; alias: {result.alias}",
        f"published partitions of version {result.version}: {', '.join(result.scored) or 'none'}",
    ]
    if result.repair:
        lines.append(f"scored again: {', '.join(result.repaired) or 'none'}")
        if result.corrected:
            lines.append(f"of these from corrected data, as before: {', '.join(result.corrected)}")
    elif result.scored:
        lines.append("they stay as they are; with --repair they are scored again")
    lines += [f"left: {one.key}: {one.reason}" for one in result.left]
    return "\n".join(lines)


def _all(events: Sequence[LedgerEvent], known_at: datetime | None) -> tuple[dict[str, Any], str]:
    """Every event that was recorded by then, and who was champion from when to when."""
    seen = [event for event in events if known_at is None or event.recorded_at <= known_at]
    line = reigns(events, known_at=known_at)
    value = {
        "events": [_event(one) for one in seen],
        "champions": [
            {
                "version": _version(one.model),
                "from": iso(one.start),
                "to": iso(one.end) if one.end else None,
                "event": one.event.number,
            }
            for one in line
        ],
    }
    header = ("event", "recorded", "verdict", "from", "to", "judged", "effective from", "actor", "evidence", "reason")
    rows = [
        (
            one.number,
            f"{one.recorded_at:%Y-%m-%d %H:%M:%S}",
            _verdict(one),
            _version(one.from_model) or _NOTHING,
            _version(one.to_model) or _NOTHING,
            one.candidate.version,
            f"{one.effective_from:%Y-%m-%d %H:%M:%S}",
            one.actor,
            one.evidence[:12] or _NOTHING,
            one.reason,
        )
        for one in seen
    ]
    text = output.table(header, rows) if rows else "no event"
    reigned = [(one["version"] or _NOTHING, one["from"], one["to"] or "", one["event"]) for one in value["champions"]]
    if reigned:
        text += "\n\n" + output.table(("champion", "from", "to", "by event"), reigned)
    return value, text


def _one(spec: PipelineSpec, events: Sequence[LedgerEvent], number: int, lake: str) -> tuple[dict[str, Any], str]:
    """All that one event says, also what a table has no room for: its run, and where its evidence lies."""
    if not 1 <= number <= len(events):
        raise UsageError(
            f"--event: the ledger of {spec.pipeline} has no event {number}",
            hint=f"it has {len(events)}: `millrace ledger {spec.pipeline}`",
        )
    event = events[number - 1]
    value = _event(event)
    rows = {
        "event": number,
        "verdict": _verdict(event),
        "recorded": iso(event.recorded_at),
        "effective from": iso(event.effective_from),
        "from version": _version(event.from_model),
        "to version": _version(event.to_model),
        "judged": event.candidate.version,
        "training": event.training,
        "actor": event.actor,
        "run": event.run_id,
        "evidence": f"{lake}/{value['evidence_at']}" if value["evidence_at"] else None,
        "reason": event.reason,
    }
    width = max(map(len, rows))
    return value, "\n".join(f"{name:<{width}}  {said or _NOTHING}" for name, said in rows.items())


def _at(
    spec: PipelineSpec, lake: Lake, events: Sequence[LedgerEvent], at: str, known_at: datetime | None
) -> tuple[dict[str, Any], str]:
    """Who scores a moment or a partition, by which event; of a partition also who did."""
    from tasks.line import published

    try:
        partition = spec.partition(at)
    except PartitionKeyError:
        partition = None
    try:
        moment = spec.as_of.at(partition) if partition else instant(at)
    except ValueError:
        raise UsageError(
            f"--at: {at!r} is neither a partition of {spec.pipeline} nor a moment such as 2013-11-05T09:00Z"
        ) from None
    event = deciding(events, moment, known_at=known_at)
    value: dict[str, Any] = {
        "at": iso(moment),
        "champion": _version(event.to_model) if event else None,
        "event": _event(event) if event else None,
    }
    text = f"{spec.pipeline} at {iso(moment)}: no champion"
    if event:
        text = f"{spec.pipeline} at {iso(moment)}: version {value['champion']}, by event {event.number} ({event.verdict}, {event.actor}): {event.reason}"
    entry = published(spec, lake).get(partition.key) if partition else None
    if partition:
        meta = entry.meta if entry else {}
        chosen = {"chosen": meta.get("chosen", "as-of"), "in_sample": meta.get("in_sample", False)} if entry else {}
        value |= {"partition": partition.key, "published_by": meta.get("model_version"), **chosen}
        how = f"{chosen['chosen']}, in sample" if chosen.get("in_sample") else chosen.get("chosen")
        text += f"\npublished by version {meta['model_version']} ({how})" if entry else "\nnot published"
    return value, text


def _event(event: LedgerEvent) -> dict[str, Any]:
    where = f"evidence/{event.evidence}.json" if event.evidence else None
    return event.to_dict() | {"number": event.number, "evidence_at": where}


def _verdict(event: LedgerEvent) -> str:
    """With what is to be known of it at once."""
    return event.verdict + (", repair" if event.repair else "") + (", despite leaks" if event.despite_leaks else "")


def _version(model: ModelRef | None) -> int | None:
    return model.version if model else None
