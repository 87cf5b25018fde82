"""Boosting in one process: row groups in, a model out. Every way of training runs this very function.

XGBoost asks for the data four times to build a quantile matrix on the CPU (twice on a GPU), so what was
read and encoded once is kept in scratch files (`scratch`) and mapped from there: in memory, and on a GPU, there is
one batch and the quantised matrix, never the data in full width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.compute.checkpoints import Checkpoint, Checkpoints, History
from tasks.compute.encoding import Encoding
from tasks.compute.kept import KeptBatches
from tasks.compute.rows import RowGroup, TrainingData
from tasks.compute.upload import give_back, uploaded

if TYPE_CHECKING:
    import xgboost

_READERS, _GPU_READERS = 2, 16

Report = Callable[[str], None]
"""Called with a phase as a sign of life: "reading", "round", or "peer" for a round of another than the first process.

What it raises ends the training.
"""


@dataclass(frozen=True)
class Job:
    """A training, as every process that takes part in it knows it.

    Attributes:
        data: the files.
        encoding: of the features.
        params: XGBoost's parameters under its own names, with the objective and the device.
        rounds: boosting rounds in all.
        whole: whether labels must be whole numbers.
        external: whether the quantised matrix stays on disk (or, with a GPU, in the host's memory).
        start: the checkpoint to go on from.
        checkpoints: where the first process puts them.
        follow: the metrics are taken after every so many rounds, and after the last.
    """

    data: TrainingData = field(repr=False)  # Dask logs a failed task's arguments: no category's text there
    encoding: Encoding = field(repr=False)
    params: Mapping[str, Any]
    rounds: int
    whole: bool
    external: bool = False
    start: Checkpoint | None = field(default=None, repr=False)
    checkpoints: Checkpoints | None = None
    follow: int = 1


@dataclass(frozen=True)
class Boosted:
    """What the first process hands back.

    Attributes:
        model: XGBoost's own format (UBJ).
        history: metric -> value per round, from the first round on; None where it was not taken.
        device: cpu or cuda, as the booster itself says.
    """

    model: bytes
    history: History
    device: str


def boost(job: Job, hand: Sequence[RowGroup], *, threads: int, folder: Path, report: Report) -> Boosted | None:
    """Train on a hand of row groups, together with the other processes of the communicator, if there is one.

    Args:
        threads: threads of this process.
        folder: a scratch folder of this process's own.
        report: told of each batch read and of each round done.

    Returns:
        The model, from the first process of the communicator; None from the others.
    """
    kept = read_ahead(job, hand, threads=threads, folder=folder)
    import xgboost  # while the first batches are read
    from xgboost import collective

    with xgboost.config_context(nthread=threads, verbosity=1):
        matrix = quantised(job, kept, threads=threads, folder=folder, report=report)
        report("reading")
        booster, history = grow(job, matrix, watched=matrix, threads=threads, report=report)
        first = collective.get_rank() == 0
        return Boosted(bytes(booster.save_raw("ubj")), history, device_of(booster)) if first else None


def grow(
    job: Job, matrix: xgboost.DMatrix, *, watched: xgboost.DMatrix, threads: int, report: Report
) -> tuple[xgboost.Booster, dict[str, list[float | None]]]:
    """Boost the rounds of a job on a quantised matrix.

    Args:
        watched: the rows on which the metrics are followed.

    Returns:
        The booster, and metric -> value per round, None where it was not taken.
    """
    import xgboost
    from xgboost import collective

    params = {**job.params, "nthread": threads, "verbosity": 1, "seed_per_iteration": True}
    metrics = params.pop("eval_metric")
    model = bytearray(job.start.model) if job.start else None
    booster = xgboost.Booster(
        [*params.items(), *(("eval_metric", name) for name in metrics)],
        cache=[matrix] if watched is matrix else [matrix, watched],
        model_file=model,
    )
    history: dict[str, list[float | None]] = {
        name: list(values) for name, values in (job.start.history if job.start else {}).items()
    }
    first = collective.get_rank() == 0
    for done in range(booster.num_boosted_rounds(), job.rounds):
        # the round's number seeds the generator: one that goes on does not draw the first rounds' samples again
        booster.update(matrix, iteration=done)
        taken = (done + 1) % job.follow == 0 or done + 1 == job.rounds
        found = _scores(booster.eval_set([(watched, "watched")], done)) if taken else dict.fromkeys(metrics).items()
        for name, value in found:
            history.setdefault(name, []).append(value)
        report("round" if first else "peer")  # one speaks for all: several would look like a faster pace
        if first and job.checkpoints and (done + 1) % job.checkpoints.every == 0 and done + 1 < job.rounds:
            job.checkpoints.save(Checkpoint(done + 1, bytes(booster.save_raw("ubj")), history))
    return booster, history


def device_of(booster: xgboost.Booster) -> str:
    """cpu or cuda, as the booster itself says."""
    return json.loads(booster.save_config())["learner"]["generic_param"]["device"].split(":")[0]


def _scores(text: str) -> list[tuple[str, float]]:
    # XGBoost says '[7]\twatched-auc:0.68\twatched-logloss:0.41'
    found = []
    for part in text.split("\t")[1:]:
        name, _, value = part.partition(":")
        found.append((name.removeprefix("watched-"), float(value)))
    return found


def read_ahead(job: Job, hand: Sequence[RowGroup], *, threads: int, folder: Path) -> KeptBatches:
    """The batches of a hand for `quantised`, which closes them; their reading begins at once.

    Args:
        threads: of this process.
        folder: a scratch folder of this matrix's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # beside a GPU the processors do nothing else; each reader holds a batch
    readers = max(_READERS, min(threads, _GPU_READERS)) if job.params["device"] == "cuda" else _READERS
    return KeptBatches(hand, job.data, job.encoding, whole=job.whole, folder=folder, readers=readers)


def quantised(
    job: Job,
    kept: KeptBatches,
    *,
    threads: int,
    folder: Path,
    report: Report,
    ref: xgboost.DMatrix | None = None,
) -> xgboost.DMatrix:
    """The quantised matrix of batches, which are closed then.

    Args:
        folder: theirs.
        ref: the matrix whose quantiles it takes; None for its own.
    """
    import xgboost

    on_gpu = job.params["device"] == "cuda"

    class Batches(xgboost.DataIter):
        """The batches of a hand, one after the other, as often as XGBoost asks for them."""

        def __init__(self) -> None:
            super().__init__(cache_prefix=str(folder / "pages") if job.external else None, release_data=True)
            self.place = 0

        def next(self, input_data: Callable) -> bool:
            if self.place == len(kept):
                return False
            matrix, label = kept[self.place]
            input_data(
                data=uploaded(matrix) if on_gpu else matrix,
                label=label,
                feature_names=list(job.encoding.columns),
                feature_types=list(job.encoding.kinds),
            )
            self.place += 1
            report("reading")
            return True

        def reset(self) -> None:
            self.place = 0

    kind = xgboost.ExtMemQuantileDMatrix if job.external else xgboost.QuantileDMatrix
    with closing(kept):
        matrix = kind(Batches(), ref=ref, max_bin=int(job.params["max_bin"]), nthread=threads, enable_categorical=True)
    if on_gpu:
        give_back()
    return matrix
