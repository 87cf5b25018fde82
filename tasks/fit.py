"""Labelled rows -> a model, at the place that its size asks for, after a search where the spec wants one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.domain.spec import PipelineSpec
from tasks.errors import ClusterError, MemoryShortError
from tasks.lake import Lake
from tasks.search import find_params
from tasks.spans import Rows

if TYPE_CHECKING:
    from tasks.compute.cluster import Tls
    from tasks.compute.encoding import Encoding
    from tasks.compute.search import Found
    from tasks.compute.train import Recipe, Trained
    from tasks.settings import Settings


@dataclass(frozen=True)
class Fitted:
    """What came out of a training, and what went into it.

    Attributes:
        found: by the search before it; None without one.
        recipe: with the parameters that were found.
    """

    trained: Trained
    encoding: Encoding
    recipe: Recipe
    found: Found | None


@dataclass(frozen=True)
class Keep:
    """Where a training keeps what an attempt after it goes on from.

    Attributes:
        line: of the lake's objects.
        key: the training's.
    """

    lake: Lake
    line: str
    key: str


def fit(
    *,
    spec: PipelineSpec,
    rows: Rows,
    folder: Path,
    settings: Settings,
    say: Callable[[str], None],
    keep: Keep | None,
) -> Fitted:
    """Train a model on labelled rows.

    Args:
        folder: for scratch files.
        keep: None writes nothing into the lake: no search then.

    Raises:
        TrainingError: rows that tell nothing.
        ClusterError: no place came up, or it was lost again and again.
    """
    from tasks.compute.cuda import GpuShares
    from tasks.compute.params import check_params
    from tasks.compute.places import Means, open_place
    from tasks.compute.sizing import Shape
    from tasks.compute.train import Recipe, classes_of
    from tasks.compute.train import train as boost

    encoding, seen = rows.encoding, rows.seen
    recipe = Recipe(spec.train.objective, dict(spec.train.params), spec.train.rounds, spec.train.seed)
    bins = check_params(recipe.objective, recipe.params)["max_bin"]
    means = Means(
        folder=folder,
        threads=settings.threads,
        scheduler=settings.dask_scheduler,
        tls=tls_of(settings),
        workers=settings.workers,
        memory_limit=settings.memory_limit,
        stall=settings.train_stall,
        patience=settings.gpu_patience,
        shares=GpuShares(settings.gpu_pool, settings.gpu_memory_limit),
    )
    shape = Shape(seen.rows, len(encoding.columns), bins, classes_of(recipe.objective, seen))
    wish, gpus = spec.train.way, spec.train.gpus
    if seen.empty:
        say(f"features without any value: {', '.join(seen.empty)}")
    lost: list[ClusterError] = []

    def place(*, alone: bool) -> AbstractContextManager:
        # a worker of an outside cluster that was killed for its memory tells nothing: a second loss counts as one
        short = len(lost) > 1 or any(isinstance(error, MemoryShortError) for error in lost)
        return open_place(shape, means, wish=wish, gpus=gpus, say=say, alone=alone, short=short)

    found = None
    if spec.train.search is not None:
        found = find_params(
            spec=spec,
            data=rows.data,
            judging=rows.judging,
            seen=seen,
            encoding=encoding,
            recipe=recipe,
            place=partial(place, alone=True),
            lost=lost.append,
            attempts=settings.train_attempts,
            lake=keep.lake,
            key=keep.key,
            say=say,
        )
        recipe = replace(recipe, params=found.params)
    trained = boost(
        partial(place, alone=False),
        rows.data,
        seen=seen,
        encoding=encoding,
        recipe=recipe,
        checkpoints=_checkpoints(spec, keep) if keep else None,
        attempts=settings.train_attempts,
        say=say,
        lost=lost.append,
    )
    return Fitted(trained, encoding, recipe, found)


def tls_of(settings: Settings) -> Tls | None:
    """The files for a scheduler at tls://; None without."""
    from tasks.compute.cluster import Tls

    files = (settings.dask_tls_ca, settings.dask_tls_cert, settings.dask_tls_key)
    return Tls(*files) if all(files) else None


def _checkpoints(spec: PipelineSpec, keep: Keep):
    from tasks.compute.checkpoints import Checkpoints

    return Checkpoints(keep.lake.objects, f"{keep.line}/trainings/{keep.key}/checkpoints", spec.train.checkpoint)
