"""A search for parameters: trials one after the other on data that is quantised once, in one process of its own.

The rows are split in time: the trials are trained on the earlier ones and judged on the later ones, whose
quantiles are those of the earlier. A matrix is made for each part and every trial boosts on it with the very
function that trains a model. A cluster is not used: what doesn't fit the memory of one process lies on disk.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.compute.boosting import Job, Report, device_of, grow, quantised, read_ahead
from tasks.compute.encoding import Encoding
from tasks.compute.machine import resident
from tasks.compute.metrics import metric
from tasks.compute.params import Space, replaced
from tasks.compute.rows import RowGroup, Survey, TrainingData
from tasks.compute.single import Single, portable
from tasks.compute.suggest import suggest
from tasks.compute.train import Recipe, check_labels, full_params, tried
from tasks.compute.trials import Trial, Trials, best_of
from tasks.errors import ClusterError, NoPlaceError, TrainingError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Hunt:
    """What is searched for, and how.

    Attributes:
        space: the parameters.
        trials: how many are made.
        metric: of `tasks.compute.metrics`; its value on the validation rows decides.
        validation: the files of the training data whose rows judge.
        kept: where trials are kept.
    """

    space: Space
    trials: int
    metric: str
    validation: Collection[str]
    kept: Trials


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        best: the trial with the best value, the first of equals.
        params: the training's, the best ones among them.
        trials: all of them.
        rows: (rows trained on, rows judged on).
        gpu_seconds, cpu_seconds: of this search's places, without those of earlier attempts.
    """

    best: Trial
    params: Mapping[str, Any]
    trials: tuple[Trial, ...]
    rows: tuple[int, int]
    gpu_seconds: float
    cpu_seconds: float


def search(
    open_place: Callable[[], AbstractContextManager[Single]],
    data: TrainingData,
    *,
    seen: Survey,
    encoding: Encoding,
    recipe: Recipe,
    hunt: Hunt,
    attempts: int = 1,
    say: Say = lambda text: None,
    lost: Callable[[ClusterError], None] = lambda error: None,
) -> Found:
    """Make the trials that are not done yet; after the loss of the process, go on behind the last one.

    Args:
        data: files of both parts.
        seen: of `data`.
        recipe: the training's; a trial's parameters stand over its own.
        lost: see `tasks.compute.train.train`.

    Raises:
        TrainingError: a part has no rows, or rows of one class only; no trial gave a model.
        ClusterError, NoPlaceError: as `tasks.compute.train.train`.
    """
    classes = check_labels(recipe.objective, seen)
    judging = tuple(group for group in seen.groups if group.path in hunt.validation)
    learning = tuple(group for group in seen.groups if group.path not in hunt.validation)
    if not judging or not learning:
        part = "judge them on" if learning else "train them on"
        raise TrainingError(f"the trials of the search have no labelled rows to {part}")
    rows = sum(group.rows for group in learning), sum(group.rows for group in judging)

    def attempt(place: Single) -> tuple[Trial, ...]:
        done = len(hunt.kept.done(hunt.trials))
        if done:
            say(f"going on with trial {done + 1} of {hunt.trials}: those before it are done")
        job = Job(
            data=data,
            encoding=encoding,
            params=full_params(recipe, place.device, rows[1], classes),
            rounds=recipe.rounds,
            whole=recipe.objective.startswith(("binary", "multi")),
            external=place.external,
        )
        return place.apart(partial(make_trials, _Search(job, learning, judging, hunt, place.way)), say=say)

    trials, used = tuple(hunt.kept.done(hunt.trials)), {"gpu_seconds": 0.0, "cpu_seconds": 0.0}
    if len(trials) < hunt.trials:
        trials, used = tried(open_place, attempt, attempts=attempts, say=say, what="search", lost=lost)
    best = best_of(trials, hunt.metric)
    return Found(best, replaced(recipe.params, best.params), trials, rows, **used)


@dataclass(frozen=True)
class _Search:
    """All that the process of the trials needs."""

    job: Job
    learning: tuple[RowGroup, ...] = field(repr=False)
    judging: tuple[RowGroup, ...] = field(repr=False)
    hunt: Hunt
    way: str


def make_trials(search: _Search, *, threads: int, folder: Path, report: Report, say: Say) -> tuple[Trial, ...]:
    """Make the trials that are not done yet, in this process; all of them, also those that were done."""
    import xgboost

    hunt, job = search.hunt, search.job
    with xgboost.config_context(nthread=threads, verbosity=1):
        make = partial(quantised, job, threads=threads, report=report)
        mine = folder / "learning"
        matrix = make(read_ahead(job, search.learning, threads=threads, folder=mine), folder=mine)
        mine = folder / "judging"
        watched = make(read_ahead(job, search.judging, threads=threads, folder=mine), folder=mine, ref=matrix)
        _check(job, hunt, matrix.get_label(), watched.get_label())
        done = hunt.kept.done(hunt.trials)
        while len(done) < hunt.trials:
            report("reading")  # the pace of one trial's rounds is not that of the next one's
            params = suggest(hunt.space, hunt.metric, done, seed=job.params["seed"])
            trial = _trial(search, len(done) + 1, params, matrix, watched, threads, report)
            done.append(hunt.kept.keep(trial))
            say(f"trial {trial.number} of {hunt.trials}: {_said(hunt.metric, trial)}")
        return tuple(done)


def _trial(search: _Search, number: int, params, matrix, watched, threads: int, report: Report) -> Trial:
    from xgboost.core import XGBoostError

    started, began = time.time(), time.monotonic()
    name, value, error, history = search.hunt.metric, None, "", {}
    job = replace(search.job, params={**search.job.params, **params})
    try:
        booster, history = grow(job, matrix, watched=watched, threads=threads, report=report)
        if device_of(booster) != job.params["device"]:
            raise NoPlaceError(
                f"the search was to run on {job.params['device']}, the booster says {device_of(booster)}"
            )
        found = metric(name, watched.get_label(), booster.predict(watched))
        value, error = (found, "") if math.isfinite(found) else (None, f"{name} has no value on its predictions")
        del booster
    except XGBoostError as refused:  # parameters that don't go together: the next ones may
        problem = portable(refused)
        if isinstance(problem, ClusterError):
            raise problem from refused
        error = problem.message
    _give_back()
    return Trial(
        number=number,
        params=params,
        value=value,
        error=error,
        history=history,
        started=round(started, 3),
        seconds=round(time.monotonic() - began, 3),
        memory=resident(),
        way=search.way,
        device=job.params["device"],
    )


def _check(job: Job, hunt: Hunt, learned: np.ndarray, judged: np.ndarray) -> None:
    if job.whole and learned.min() == learned.max():
        raise TrainingError(
            f"every label before the search's validation rows is {learned[0]:g}: trials would learn nothing",
            hint="shorten train.search.validation, or train a longer window",
        )
    if hunt.metric == "auc" and judged.min() == judged.max():
        raise TrainingError(
            f"auc has no value on {len(judged)} validation rows with labels of one class",
            hint="lengthen train.search.validation, or choose another gate.metric",
        )


def _give_back() -> None:
    """Give the memory that a trial freed back to the system; the C library would keep some, and more each time."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _said(name: str, trial: Trial) -> str:
    words: dict[str, Any] = {
        key: f"{value:.4g}" if isinstance(value, float) else value for key, value in trial.params.items()
    }
    judged = trial.error if trial.value is None else f"{name} {trial.value:.5f}"
    return f"{judged} with {', '.join(f'{key}={value}' for key, value in words.items())} ({trial.seconds:.1f} s)"
