"""`millrace replay`: after the fix of a file or a suite, what was set aside comes back and is scored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tasks.command.sources import in_source, sources_of
from tasks.command.steps import Steps
from tasks.domain import tables
from tasks.domain.partition import Partition, span
from tasks.domain.replayed import Came, ReplayReport
from tasks.domain.results import PinResult, ScoreResult
from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec
from tasks.errors import MillraceError, NotReadyError, SupersededError, Terminal, UsageError
from tasks.lake import Lake, open_lake
from tasks.pin import CORRECTED, WAITS, look
from tasks.settings import contract_file, pipeline_names

ASKED = "as it was asked for"
"""How the reason of a partition ends whose model a person chose."""

Problem = Callable[[str], None]


def replay(steps: Steps, name: str, partition: str) -> ReplayReport:
    """Look at files and contracts again for a partition or a range, and publish what comes of it.

    The sources' files are ingested, what the contract of today would take comes back as the next revision, what was
    blocked is judged anew; then, of a pipeline, the partitions are scored: from what was known where they were never
    published, from corrected data where a replayed revision is among what they read. A second call does nothing.

    Raises:
        UsageError: no such partition.
    """
    settings, lake = steps.settings, open_lake(steps.settings)
    scored = name in pipeline_names(settings.config)
    came: list[Came] = []
    problems: list[str] = []
    for source in sources_of(settings, name):
        mine = in_source(settings, name, source, partition)
        came += _source(steps, lake, source, mine, problems.append, waits=scored)
    if not scored:
        return ReplayReport(name, tuple(came), problems=tuple(problems))
    spec = steps.spec(name)
    wanted = span(spec.grain, spec.timezone, partition)
    published, skipped = _score(steps, spec, lake, wanted, problems.append)
    corrected = replace(steps, data=CORRECTED, given={})
    restated, _ = _score(corrected, spec, lake, _of_replays(spec, lake, wanted), problems.append)
    problems += [f"{name} {key}: {why}" for key, why in skipped.items() if why.startswith(WAITS)]
    left = [f"{key}: {why}" for key, why in skipped.items() if not why.startswith(("published, by version", WAITS))]
    left += [f"{key}: {why}" for key, why in skipped.items() if why.endswith(ASKED) and came]
    others = _dependants(spec, lake, {one.key for one in wanted}, {f"{one.source}/{one.key}" for one in came})
    days = sorted(one.local_start.date() for one in others)
    return ReplayReport(
        name,
        tuple(came),
        published,
        restated,
        tuple(left),
        tuple(one.key for one in others),
        tuple(str(day) for day in (*days[:1], *days[-1:])),
        tuple(dict.fromkeys(problems)),
    )


def text(report: ReplayReport) -> str:
    """What became clean, what was published, what else reads it, and what stands in the way."""
    lines = []
    for one in report.came:
        gone = f", {one.gone} that passed are set aside now" if one.gone else ""
        how = f"{one.back} rows came back{gone}; " if one.back else ""
        lines.append(f"{one.source} {one.key}: {how}revision {one.revision} is clean, {one.rows} rows")
    lines += [f"{report.name} {key}: published" for key in report.published]
    lines += [f"{report.name} {key}: published again, from corrected data" for key in report.restated]
    lines += [f"{report.name} {text}" for text in report.left]
    if report.dependants:
        first, last = report.between
        lines.append(
            f"{len(report.dependants)} more published partitions read it: "
            f"`millrace plan {report.name} --from {first} --to {last} --data corrected`"
        )
    lines += [f"still in the way: {problem}" for problem in report.problems]
    return "\n".join(lines or [f"{report.name}: nothing to replay"])


def _source(steps: Steps, lake: Lake, source: SourceSpec, text: str, problem: Problem, *, waits: bool) -> list[Came]:
    """Ingest, replay and validate partitions of a source; what became clean.

    What stops one of these is told and stops no other.

    Args:
        waits: what was not delivered is told by whoever waits for it.
    """
    from tasks.replay import replay as land_again

    def attempt(what: Callable[[], Any], *, lacks: bool = False) -> Any:
        try:
            return what()
        except UsageError:
            raise
        except SupersededError as error:  # somebody else did it
            steps.say(_spelled(error))
        except NotReadyError as error:
            if lacks:
                problem(_spelled(error))
        except Terminal as error:
            problem(_spelled(error))
        return None

    wanted = span(source.grain, source.timezone, text)
    keys = {one.key for one in wanted}
    before = _clean(lake, source.name, keys)
    attempt(lambda: steps.source("ingest", source.name, text))  # a file that was taken away since is in raw
    landed = attempt(
        lambda: land_again(
            source=source,
            partitions=wanted,
            contract=contract_file(steps.settings.config, source),
            lake=lake,
            run=steps.run,
            clock=lambda: datetime.now(UTC),
        )
    )
    attempt(lambda: steps.source("validate", source.name, text), lacks=not waits)
    replayed = {(one.key, one.revision): one for one in (landed.partitions if landed else ())}
    for one in replayed.values():
        if one.status == "blocked":
            problem(f"{source.name} {one.key}: the contract would block it now: {one.reason}")
    found = []
    for pair, rows in _clean(lake, source.name, keys).items():
        if pair not in before:
            again = replayed.get(pair)
            counts = (again.back, again.gone) if again else (0, 0)
            found.append(Came(source.name, *pair, rows, *counts))
    return found


def _clean(lake: Lake, source: str, keys: Collection[str]) -> dict[tuple[str, int], int]:
    """The clean revisions of partitions, each with its rows."""
    entries = lake.table(tables.clean(source)).entries()
    return {(key, int(revision)): one.rows for (key, revision), one in sorted(entries.items()) if key in keys}


def _score(
    steps: Steps, spec: PipelineSpec, lake: Lake, wanted: Sequence[Partition], problem: Problem
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The partitions that a score run published, and why it left the others; one that fails stops no other."""
    if not wanted:
        return (), {}
    try:
        done = replace(steps, given={}).scoring("score", spec, lake, wanted)
    except SupersededError as error:
        steps.say(_spelled(error))
        return (), {}
    except (Terminal, NotReadyError) as error:
        if len(wanted) == 1:
            problem(f"{spec.pipeline} {wanted[0].key}: {_spelled(error)}")
            return (), {}
        parts = [_score(steps, spec, lake, [one], problem) for one in wanted]
        published = tuple(key for keys, _ in parts for key in keys)
        return published, {key: why for _, skipped in parts for key, why in skipped.items()}
    assert isinstance(done, ScoreResult | PinResult)
    published = [one.key for one in done.partitions if getattr(one, "status", "") == "published"]
    return tuple(published), {one.key: one.reason for one in done.skipped}


def _of_replays(spec: PipelineSpec, lake: Lake, wanted: Sequence[Partition]) -> list[Partition]:
    """Those published partitions that corrected data would change by a revision that a replay landed."""
    raw = {name: lake.table(tables.raw(name)).entries() for name in spec.sources}

    def landed_again(text: str) -> bool:
        source, _, rest = text.partition("/")
        key, _, revision = rest.rpartition("@")
        entry = raw[source].get((key, int(revision)))
        return entry is not None and "replays" in entry.meta

    found, _ = look(spec=spec, partitions=wanted, lake=lake, data=CORRECTED)
    due = {one.key for one in found.partitions if any(map(landed_again, one.restated))}
    return [one for one in wanted if one.key in due]


def _dependants(spec: PipelineSpec, lake: Lake, wanted: Collection[str], came: Collection[str]) -> list[Partition]:
    """The other published partitions that corrected data would change by what became clean, in order."""
    if not came:
        return []
    others = [key for (key,) in lake.table(tables.predictions(spec.line)).entries() if key not in wanted]
    partitions = sorted(spec.partition(key) for key in others)
    found, _ = look(spec=spec, partitions=partitions, lake=lake, data=CORRECTED)
    due = {one.key for one in found.partitions if any(text.rpartition("@")[0] in came for text in one.restated)}
    return [one for one in partitions if one.key in due]


def _spelled(error: MillraceError) -> str:
    return " ".join(str(error).split())
