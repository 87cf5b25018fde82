"""`millrace backtest`: the verbs of every day, walked forward over a past range on a line of its own."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from tasks.command.output import table
from tasks.command.steps import Steps
from tasks.domain import tables
from tasks.domain.backtest import Train, walk
from tasks.domain.partition import Partition
from tasks.domain.ranges import pipeline_partitions
from tasks.domain.results import BacktestResult, Judged, Skipped
from tasks.domain.spec import PipelineSpec, line_of
from tasks.domain.training import training_window
from tasks.errors import TrainingError, UsageError
from tasks.lake import Lake, open_lake
from tasks.pin import WAITS

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


def backtest(
    steps: Steps, pipeline: str, first: date, last: date, *, name: str | None = None, bootstrap: bool = False
) -> BacktestResult:
    """Walk forward over the local days `first` to `last`; a second call goes on where the first one ended.

    Args:
        steps: with settings, who runs, and what it says; its line is set here.
        name: of the backtest; None for one that follows from the range and from all that the spec says.
        bootstrap: on the pipeline's main line, which must be empty.

    Raises:
        UsageError: no partition, one that is still to come, another backtest of this name, or a main line in use.
        NotReadyError: an input of a training, or of all partitions between two of them, was not ingested.
    """
    lake = open_lake(steps.settings)
    spec = steps.spec(pipeline)
    wanted = _wanted(spec, first, last)
    begun = _manifest(steps, spec, lake, wanted)
    if bootstrap:
        _check_main_line(spec, lake, begun)
    else:
        name = name or f"{first}-to-{last}-{begun['digest'][:6]}"
        steps = replace(steps, backtest=name)
        _begin(lake, f"{line_of(pipeline, name)}/backtest.json", name, begun)
    return _walk(steps, spec, wanted, name if not bootstrap else None)


def waiting(result: BacktestResult) -> list[str]:
    """Keys of the partitions that were left since their inputs are still expected."""
    return [one.key for one in result.skipped if one.reason.startswith(WAITS)]


def text(result: BacktestResult, first: date, last: date) -> str:
    """What was done, and the command that reports on it."""
    rows = [(one.training, one.verdict or "not trained", one.champion or "-") for one in result.trainings]
    lines = [table(("training", "verdict", "champion after it"), rows), ""]
    lines += [f"{one.key}: {one.reason}" for one in result.skipped if not one.reason.startswith("published")]
    if left := waiting(result):
        lines.append(
            f"not done: {len(left)} of {result.partitions} partitions wait; the same command goes on from here"
        )
    of = "" if result.backtest is None else f" --backtest {result.backtest}"
    lines += [
        f"{result.published} of {result.partitions} partitions published now, in {result.seconds:.0f} s",
        f"`millrace report {result.pipeline} --from {first} --to {last}{of}` tells how it did",
    ]
    return "\n".join(lines)


def _walk(steps: Steps, spec: PipelineSpec, wanted: Sequence[Partition], name: str | None) -> BacktestResult:
    judged, skipped, published = [], {}, 0
    began = time.monotonic()
    for step in walk(spec, wanted):
        if isinstance(step, Train):
            training = step.training
            try:
                training_window(spec, training)
            except TrainingError as error:
                steps.say(f"{training}: not trained: {error.message}")
                judged.append(Judged(training.key, None, "", False, error.message))
                continue
            done = steps.pipeline("promote", spec.pipeline, training.key)
            steps.say(f"{training}: {done.verdict}: {done.reason}")
            judged.append(Judged(training.key, done.champion, done.verdict, done.promoted, done.reason))
        else:
            keys = step.partitions[0].key, step.partitions[-1].key
            done = steps.pipeline("score", spec.pipeline, "..".join(keys))
            published += sum(getattr(one, "status", "") == "published" for one in done.partitions)
            skipped |= {one.key: one.reason for one in done.skipped}
    left = tuple(Skipped(key, reason) for key, reason in skipped.items())
    return BacktestResult(
        pipeline=spec.pipeline,
        backtest=name,
        first=wanted[0].key,
        last=wanted[-1].key,
        trainings=tuple(judged),
        partitions=len(wanted),
        published=published,
        skipped=left,
        seconds=round(time.monotonic() - began, 1),
    )


def _wanted(spec: PipelineSpec, first: date, last: date) -> list[Partition]:
    if last < first:
        raise UsageError(f"--to {last} is before --from {first}")
    found = pipeline_partitions(spec, first, last)
    if not found:
        raise UsageError(f"{spec.pipeline} has no partitions from {first} to {last}")
    if spec.as_of.at(found[-1]) > datetime.now(UTC):
        raise UsageError(f"--to {last}: the as_of of {found[-1].key} is still to come; a backtest is of the past")
    return found


def _manifest(steps: Steps, spec: PipelineSpec, lake: Lake, wanted: Sequence[Partition]) -> dict[str, str]:
    """What makes one backtest another: the range, the feature view, and all that the spec says."""
    view = steps.view(spec, lake)
    told = {"first": wanted[0].key, "last": wanted[-1].key, "view": view, "spec": spec.model_dump(mode="json")}
    text = json.dumps(told, sort_keys=True, default=str)
    return {
        "first": told["first"],
        "last": told["last"],
        "view": view,
        "digest": hashlib.sha256(text.encode()).hexdigest(),
    }


def _begin(lake: Lake, key: str, name: str, begun: dict[str, str]) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name: {name!r} is no name; expected lower-case letters, digits and hyphens, at most 80")
    if lake.objects.put_if_absent(key, json.dumps(begun).encode()):
        return
    there = json.loads(lake.objects.get(key))
    if there["digest"] != begun["digest"]:
        raise UsageError(
            f"--name: backtest {name} was begun over {there['first']} to {there['last']} with view {there['view']} and another spec or range",
            hint="give the new one another name; without --name it gets one of its own",
        )


def _check_main_line(spec: PipelineSpec, lake: Lake, begun: dict[str, str]) -> None:
    key = f"{spec.pipeline}/bootstrap.json"
    in_use = lake.ledger(spec.pipeline).events() or lake.table(tables.predictions(spec.pipeline)).entries()
    if in_use:
        try:
            there = json.loads(lake.objects.get(key))
        except FileNotFoundError:
            there = {}
        if there.get("digest") != begun["digest"]:
            raise UsageError(
                f"--bootstrap: the main line of {spec.pipeline} has a champion or predictions already",
                hint="without --bootstrap the backtest gets a line of its own and touches nothing",
            )
    else:
        lake.objects.put(key, json.dumps(begun).encode())
