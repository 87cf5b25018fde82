"""What a training leaves in MLflow, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a training's search: a run nested in the training's.

    Attributes:
        number: of the trial; unique in its training.
        run_name: what an operator reads in MLflow.
        params: the parameters that were tried.
        metrics: final metrics.
        history: data set (validation) -> metric -> value per round.
        tags: further facts.
        started: when, in seconds since 1970 (UTC).
        seconds: how long it took.
        failed: whether it gave no model.
    """

    number: int
    run_name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Mapping[str, Mapping[str, Sequence[float]]]
    tags: Mapping[str, str]
    started: float
    seconds: float
    failed: bool = False


@dataclass(frozen=True)
class TrainingRecord:
    """One training, everything that MLflow keeps of it.

    Attributes:
        pipeline: name of the experiment and of the registered model.
        training_key: names this training for ever; recording it twice gives one run and one version.
        run_name: what an operator reads in MLflow.
        params: parameters of the training.
        metrics: final metrics.
        history: data set (train, holdout) -> metric -> value per round; None where it was not taken.
        inputs: table -> version: the snapshots that were read.
        tags: further facts, for instance who started it.
        features: (name, kind) of the model's input columns in order; kind "q" a quantity, "c" the
            index of a category.
        classes: number of classes, for a model that gives a row of probabilities; else None.
        model: the model's bytes, XGBoost's own format (UBJ).
        digest: SHA-256 of the bytes, the model's name in the lake.
        suite_results: results of the sources' contracts, kept as an artifact.
        artifacts: file name -> bytes of further artifacts.
        trials: those of a search before it.
    """

    pipeline: str
    training_key: str
    run_name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Mapping[str, Mapping[str, Sequence[float | None]]]
    inputs: Mapping[str, int]
    features: tuple[tuple[str, str], ...]
    model: bytes
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict)
    classes: int | None = None
    suite_results: Mapping[str, Any] | Sequence[Any] | None = None
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    trials: Sequence[TrialRecord] = ()


@dataclass(frozen=True)
class Registered:
    """Where a training is in MLflow.

    Attributes:
        run_id: MLflow's run.
        version: version of the registered model.
        reused: whether both were there before.
    """

    run_id: str
    version: int
    reused: bool = False
