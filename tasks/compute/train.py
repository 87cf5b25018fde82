"""Training: the way is chosen by size, and whatever dies on it, it goes on from the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from tasks.compute.boosting import Boosted, Job
from tasks.compute.checkpoints import Checkpoints, History
from tasks.compute.encoding import Encoding
from tasks.compute.params import METRICS, check_params
from tasks.compute.rows import RowGroup, Survey, TrainingData, deal, survey
from tasks.errors import ClusterError, NoPlaceError, TrainingError

_CLASSIFIERS = ("binary:logistic", "multi:softprob")
_FOLLOWED_ROWS = 1_000_000
"""Above so many rows the metrics are followed every tenth round: each takes a tenth of a round's time. And auc is not
followed at all: sorting the rows would take as long as a round."""


@dataclass(frozen=True)
class Recipe:
    """What makes a model out of its rows.

    Attributes:
        objective: XGBoost's objective.
        params: XGBoost's parameters, as `check_params` takes them.
        rounds: boosting rounds.
        seed: of everything random.
    """

    objective: str
    params: Mapping[str, Any]
    rounds: int
    seed: int


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: XGBoost's own format (UBJ).
        history: metric -> value on the training data per round, None where it was not taken. With several workers auc is the mean
            of each worker's own, as XGBoost computes it; the others are exact.
        rounds: trees per output.
        rows: rows trained on.
        classes: number of classes for multi:softprob, else None.
        empty: features without any value in the training data.
        device: cpu or cuda, as the booster itself says.
        seconds: from the first attempt's start to the last one's end.
        gpu_seconds, cpu_seconds: of the places' GPUs and threads, in all attempts.
        way, reason: of the last place: single, external or cluster, and why.
        resumed_from: the round of the checkpoint that was gone on from; 0 where none was.
        threads, workers: of the last place: threads of one worker.
    """

    model: bytes
    history: History
    rounds: int
    rows: int
    classes: int | None
    empty: tuple[str, ...]
    device: str
    seconds: float
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    way: str = ""
    reason: str = ""
    resumed_from: int = 0
    threads: int = 0
    workers: int = 1


class Place(Protocol):
    """Where a training runs: one process (`single.Single`) or a Dask cluster (`spread.Spread`)."""

    @property
    def device(self) -> str: ...

    @property
    def workers(self) -> int: ...

    @property
    def threads(self) -> int:
        """Of one worker."""

    @property
    def gpus(self) -> int: ...

    @property
    def way(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def external(self) -> bool: ...

    @property
    def waited(self) -> float:
        """Seconds that others had it: nobody's GPU was used then."""

    def run(self, job: Job, hands: list[tuple[RowGroup, ...]]) -> Boosted: ...


P, T = TypeVar("P", bound=Place), TypeVar("T")


def train(
    open_place: Callable[[], AbstractContextManager[Place]],
    data: TrainingData,
    *,
    seen: Survey,
    encoding: Encoding,
    recipe: Recipe,
    checkpoints: Checkpoints | None = None,
    attempts: int = 1,
    say: Callable[[str], None] = lambda text: None,
    lost: Callable[[ClusterError], None] = lambda error: None,
) -> Trained:
    """Train a model; after a loss or a hang go on from the last checkpoint at a fresh place.

    Args:
        lost: told of each attempt that was lost, before the next place is opened.

    Raises:
        TrainingError: no rows, one class, or labels that the objective can't take.
        ClusterError: every one of `attempts` was lost.
        NoPlaceError: no place came up: that is not tried again here.
    """
    began = time.monotonic()

    def attempt(place: Place) -> Trained:
        start = checkpoints.latest() if checkpoints else None
        if start is not None:
            say(f"going on from round {start.rounds} of {recipe.rounds} (resumed_from {start.rounds})")
        return train_at(place, data, seen=seen, encoding=encoding, recipe=recipe, checkpoints=checkpoints)

    trained, used = tried(open_place, attempt, attempts=attempts, say=say, lost=lost)
    return replace(trained, seconds=time.monotonic() - began, **used)


def tried(
    open_place: Callable[[], AbstractContextManager[P]],
    work: Callable[[P], T],
    *,
    attempts: int,
    say: Callable[[str], None],
    what: str = "training",
    lost: Callable[[ClusterError], None] = lambda error: None,
) -> tuple[T, dict[str, float]]:
    """Call `work` at a place, and at a fresh one when that was lost.

    Returns:
        What it returned; `gpu_seconds` and `cpu_seconds` of all attempts.

    Raises:
        ClusterError: every one of `attempts` was lost.
        NoPlaceError: no place came up: that is not tried again here.
    """
    used = {"gpu_seconds": 0.0, "cpu_seconds": 0.0}
    for attempt in range(1, attempts + 1):
        try:
            with open_place() as place, _counted(place, used):
                return work(place), used
        except NoPlaceError:
            raise
        except ClusterError as error:
            if attempt == attempts:
                if attempts == 1:
                    raise
                raise ClusterError(
                    f"{attempts} attempts at the {what} were lost, the last: {error.message}", hint=error.hint
                ) from error
            say(f"attempt {attempt} of {attempts} was lost: {error.message}")
            lost(error)
    raise ClusterError(f"no attempt at the {what} was allowed")


@contextmanager
def _counted(place: Place, used: dict[str, float]) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started - place.waited
        used["gpu_seconds"] += seconds * place.gpus
        used["cpu_seconds"] += seconds * place.threads * place.workers


def train_at(
    place: Place,
    data: TrainingData,
    *,
    seen: Survey | None = None,
    encoding: Encoding,
    recipe: Recipe,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """One attempt at one place.

    On one CPU process with a fixed number of threads the same arguments give the same bytes. With
    several workers sums are added in another order: equal within rounding only.
    """
    seen = seen if seen is not None else survey(data, encoding.columns)
    classes = check_labels(recipe.objective, seen)
    start = checkpoints.latest() if checkpoints else None
    started = time.monotonic()
    job = Job(
        data=data,
        encoding=encoding,
        params=full_params(recipe, place.device, seen.rows, classes),
        rounds=recipe.rounds,
        whole=recipe.objective in _CLASSIFIERS,
        external=place.external,
        start=start,
        checkpoints=checkpoints,
        follow=1 if seen.rows <= _FOLLOWED_ROWS else 10,
    )
    boosted = place.run(job, deal(seen.groups, place.workers))
    if boosted.device != place.device:
        raise NoPlaceError(f"training was to run on {place.device}, the booster says {boosted.device}")
    return Trained(
        model=boosted.model,
        history=boosted.history,
        rounds=recipe.rounds,
        rows=seen.rows,
        classes=classes,
        empty=seen.empty,
        device=boosted.device,
        seconds=time.monotonic() - started,
        way=place.way,
        reason=place.reason,
        resumed_from=start.rounds if start else 0,
        threads=place.threads,
        workers=place.workers,
    )


def classes_of(objective: str, seen: Survey) -> int:
    """Values that a model gives for a row: the classes of multi:softprob, else 1."""
    return int(seen.high) + 1 if objective == "multi:softprob" else 1


def full_params(recipe: Recipe, device: str, rows: int, classes: int | None) -> dict[str, Any]:
    """All of XGBoost's parameters, with the metrics that are followed on so many rows."""
    full = {**check_params(recipe.objective, recipe.params), "objective": recipe.objective, "seed": recipe.seed}
    full |= {"tree_method": "hist", "device": device}
    full["eval_metric"] = [name for name in METRICS[recipe.objective] if name != "auc" or rows <= _FOLLOWED_ROWS]
    return full if classes is None else full | {"num_class": classes}


def check_labels(objective: str, seen: Survey) -> int | None:
    """The number of classes for multi:softprob, else None; refuses labels that the objective can't take."""
    low, high = seen.low, seen.high
    if objective not in _CLASSIFIERS:
        return None
    if low < 0 or low != int(low) or high != int(high) or (objective == "binary:logistic" and high > 1):
        expected = "0 and 1" if objective == "binary:logistic" else "class indices from 0"
        raise TrainingError(
            f"{objective} needs labels that are {expected}; the training data has labels from {low:g} to {high:g}"
        )
    if low == high:
        raise TrainingError(f"every label of the training data is {low:g}: there is nothing to tell apart")
    return None if objective == "binary:logistic" else int(high) + 1
