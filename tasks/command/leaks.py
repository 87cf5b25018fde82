"""The leak check: from the command line, and before a promotion."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.domain import cut
from tasks.domain.leaks import BATCH, LeaksResult, drawn
from tasks.domain.partition import Partition, instant, partitions
from tasks.domain.results import EvaluateResult, FeaturizeResult, TrainingPin
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import LeakError, MillraceError, NotReadyError, VacuumedError
from tasks.lake import Lake, open_lake
from tasks.settings import Settings, features_sql, load_pipeline, rollups_sql

HINT = (
    "say when a source really is known (`available`), bound the SQL by as_of(), leave the feature out; `ahead` of the "
    "source declares a plan or a forecast, `leaks: {alone: …}` of the pipeline a feature that may tell so much"
)
INSIST = "--despite-leaks makes it champion all the same, and the ledger says so"


def check_leaks(settings: Settings, name: str, *, run: RunRef, count: int | None = None, seed: int = 0) -> LeaksResult:
    """A pipeline's present features checked on partitions that the lake has; nothing is written to the lake.

    Args:
        count: partitions computed twice; None for the pipeline's `leaks.partitions`.
        seed: which ones.

    Raises:
        NotReadyError: no partition's inputs are there.
    """
    from tasks.compute.scratch import scratch
    from tasks.lake.overlay import Overlay
    from tasks.pin import read_state
    from tasks.view import publish_view

    spec, lake, now = load_pipeline(settings.config, name), open_lake(settings), datetime.now(UTC)
    count = count or spec.leaks.partitions
    state = read_state(spec, lake)
    chosen = _ready(spec, state.deliveries, drawn(_delivered(spec, state.deliveries), seed), BATCH * count, now)
    if not chosen:
        raise NotReadyError(
            f"{name}: no partition has its inputs, so there is nothing to check",
            hint=f"ingest some: `millrace run ingest {name} FIRST..LAST`, then validate",
        )
    with scratch(settings.home / "cache" / "leaks") as folder:
        over = Overlay(_elsewhere(settings, folder / "normal"), lake)
        file = str(settings.config / "pipelines" / name / spec.features)
        texts = {"sql": features_sql(settings.config, spec), "rollups": rollups_sql(settings.config, spec)}
        view = publish_view(spec=spec, file=file, lake=over, **texts)
        return _leaks(settings, run, folder, spec, chosen, count, view, state.snapshots, now, over)


def without_leaks(
    settings: Settings, run: RunRef, spec: PipelineSpec, lake: Lake, pin: TrainingPin, evaluated: EvaluateResult
) -> EvaluateResult:
    """The evaluation of a challenger that is to be promoted, with the leak check of its view told in the reason.

    The check's result lies with the evidence. The features of the training's own partitions are checked as they lie
    in the lake.

    Raises:
        LeakError: there is a leak, so that nothing may be promoted.
    """
    if not evaluated.decision.promoted:
        return evaluated
    found = _of_training(settings, run, spec, lake, pin)
    refuse(found)
    kept = {"training": pin.training, "evidence": evaluated.digest, "snapshots": pin.snapshots, **found.to_dict()}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(text).hexdigest()
    lake.objects.put_if_absent(f"evidence/{digest}.json", text)
    reason = f"{evaluated.decision.reason}; {told(found)} (check {digest[:12]})"
    return replace(evaluated, decision=replace(evaluated.decision, reason=reason))


def version_without_leaks(
    settings: Settings,
    run: RunRef,
    spec: PipelineSpec,
    lake: Lake,
    descriptor: Mapping[str, Any],
    *,
    despite: bool,
    say: Callable[[str], None],
) -> LeaksResult:
    """The same check for a version that a person makes champion: of its recorded view and windows.

    Where its snapshots are no longer kept, the deliveries are read as they lie there today: they are the same ones.

    Args:
        despite: go on where there is a leak, or where the check can't be made.

    Raises:
        LeakError: there is a leak, or the check can't be made, and nobody insists.
    """
    from tasks.reproduce import recorded_pin

    pin = recorded_pin(descriptor)
    try:
        try:
            found = _of_training(settings, run, spec, lake, pin)
        except VacuumedError:
            today = {name: lake.table(name).version() for name in pin.snapshots}
            found = _of_training(settings, run, spec, lake, replace(pin, snapshots=today))
    except MillraceError as error:
        if error.retry and not isinstance(error, NotReadyError):
            raise
        found = LeaksResult(spec.pipeline, pin.view, (), 0, problem=str(error))
    if not despite:
        refuse(found, f"{HINT}; {INSIST}")
    elif not found.passed:
        say(f"millrace: version {descriptor['version']}, despite {told(found)}")
    return found


def refuse(found: LeaksResult, hint: str = HINT) -> None:
    """Raises LeakError where there is a leak, or where none could be looked for."""
    texts = tuple(leak.text for leak in found.leaks)
    if found.problem:
        raise LeakError(f"the leak check can't be made: {found.problem}", hint=INSIST)
    if texts:
        more = f"; and {len(texts) - 1} more" if len(texts) > 1 else ""
        raise LeakError(f"leak: {texts[0]}{more}", leaks=texts, hint=hint)


def told(found: LeaksResult) -> str:
    """The result in a line."""
    if found.problem:
        return f"no leak check: {found.problem}"
    seen = f"{_many(len(found.partitions), 'partition')} computed twice and {_many(found.labelled, 'row')} held against their labels"
    return f"{_many(len(found.leaks), 'leak')}: {seen}" if found.leaks else f"no leak: {seen}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _of_training(settings: Settings, run: RunRef, spec: PipelineSpec, lake: Lake, pin: TrainingPin) -> LeaksResult:
    """The check of a training's view on some of its own partitions."""
    from tasks.compute.scratch import scratch

    every = partitions(spec.partition(pin.train[0]), spec.partition(pin.holdout[1]))
    count = spec.leaks.partitions
    chosen = drawn(every, f"{spec.train.seed} {pin.training} {pin.view}")[: BATCH * count]
    with scratch(settings.home / "cache" / "leaks") as folder:
        labels_as_of = instant(pin.as_of)
        return _leaks(settings, run, folder, spec, chosen, count, pin.view, pin.snapshots, labels_as_of, lake)


def _leaks(
    settings: Settings,
    run: RunRef,
    folder: Path,
    spec: PipelineSpec,
    chosen: Sequence[Partition],
    count: int,
    view: str,
    snapshots: Mapping[str, int],
    labels_as_of: datetime,
    lake: Lake,
) -> LeaksResult:
    from tasks.leaks import leaks

    return leaks(
        spec=spec,
        partitions=chosen,
        count=count,
        view=view,
        snapshots=snapshots,
        labels_as_of=labels_as_of,
        lake=lake,
        copy=lambda name: _copy(settings, folder / name),
        featurize=_featurizer(settings, run, spec, view),
        run=run,
    )


@contextmanager
def _copy(settings: Settings, folder: Path) -> Iterator[Lake]:
    """An empty lake in a folder, which is gone afterwards."""
    try:
        yield open_lake(_elsewhere(settings, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _featurizer(
    settings: Settings, run: RunRef, spec: PipelineSpec, view: str
) -> Callable[[Lake, Sequence[Partition], Mapping[str, int]], FeaturizeResult]:
    """In this process: a copy lies where no worker elsewhere sees it."""
    from tasks.compute.machine import free_memory
    from tasks.featurize import featurize
    from tasks.sql.session import sql_memory

    def compute(lake: Lake, wanted: Sequence[Partition], snapshots: Mapping[str, int]) -> FeaturizeResult:
        threads = min(settings.threads, len(wanted))
        return featurize(
            spec=spec,
            partitions=wanted,
            views={view: [one.key for one in wanted]},
            snapshots=dict(snapshots),
            lake=lake,
            run=run,
            threads=threads,
            rows_at_a_time=settings.feature_rows,
            memory_limit=sql_memory(free_memory(), threads),
        )

    return compute


def _elsewhere(settings: Settings, folder: Path) -> Settings:
    """The same settings, with a lake of its own in a local folder."""
    return settings.model_copy(update={"home": folder, "lake": str(folder / "lake")})


def _delivered(spec: PipelineSpec, deliveries: Mapping[str, cut.Deliveries]) -> list[Partition]:
    """The partitions that the driving source's deliveries cover."""
    driver = spec.driver
    ends = [driver.partition(key).end for key in deliveries[driver.name]]
    last = spec.last
    every = []
    one = spec.first
    while ends and one.start < max(ends) and (last is None or one.start <= last.start):
        every.append(one)
        one = one.next()
    return every


def _ready(
    spec: PipelineSpec,
    deliveries: Mapping[str, cut.Deliveries],
    order: Sequence[Partition],
    count: int,
    now: datetime,
) -> list[Partition]:
    """The first partitions whose inputs are there; those whose labels are there too go before."""
    gaps, labelled, others = cut.Gaps(spec, deliveries), [], []
    for one in order:
        if any(lacking.missing for lacking in gaps.at(one).values()):
            continue
        labels = cut.visible_labels(spec, one, one, now, deliveries[spec.label.source])
        (labelled if labels.revisions and not labels.missing else others).append(one)
        if len(labelled) == count:
            break
    return [*labelled, *others][:count]
