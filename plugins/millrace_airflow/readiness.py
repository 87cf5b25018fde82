"""What a step waits for, and how long; asked by the trigger, in a thread, without a task slot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tasks.domain.partition import span
from tasks.settings import Settings, load_pipeline, load_source

_AFTER = timedelta(minutes=1)
"""How long beyond the moment at which a delivery is given up, so that the step sees it."""

WAITING = ("ingest", "pin", "pin_training")
"""The verbs that may find their inputs not there yet."""


def missing_inputs(settings: Settings, verb: str, name: str, text: str) -> tuple[str, ...]:
    """What a verb still waits for, as `source/partition` texts; empty when it can go on.

    Args:
        settings: where lake and landing zone are.
        verb: one of WAITING.
        name: source or pipeline.
        text: a partition key, or `FIRST..LAST`.
    """
    from tasks.lake import open_lake, open_landing

    if verb == "ingest":
        from tasks.ingest import waiting

        source = load_source(settings.config, name)
        wanted = span(source.grain, source.timezone, text)
        return waiting(
            source=source,
            partitions=wanted,
            landing=open_landing(settings),
            root=settings.landing_uri,
            now=datetime.now(UTC),
        )
    spec = load_pipeline(settings.config, name)
    lake = open_lake(settings)
    if verb == "pin":
        from tasks.pin import waiting

        return waiting(spec=spec, partitions=span(spec.grain, spec.timezone, text), lake=lake)
    from tasks.pin import training_waiting

    return training_waiting(spec=spec, training=spec.training(text), lake=lake)


def patience_ends(settings: Settings, verb: str, name: str, text: str) -> datetime:
    """When a step gives up waiting: after the settings' patience, for a scoring not before its deadline.

    One that lands files waits as long as the source does.
    """
    until = datetime.now(UTC) + timedelta(seconds=settings.patience)
    if verb == "ingest":
        source = load_source(settings.config, name)
        moments = (source.given_up(one) for one in span(source.grain, source.timezone, text))
        return max([until, *(moment + _AFTER for moment in moments if moment is not None)])
    if verb != "pin":
        return until
    spec = load_pipeline(settings.config, name)
    return max(until, spec.deadline.at(span(spec.grain, spec.timezone, text)[-1]))
