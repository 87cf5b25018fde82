"""Predictions, and what each feature contributed to them, from a model's bytes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tasks.compute.devices import Device, find_gpus
from tasks.compute.encoding import Encoding
from tasks.compute.upload import downloaded, uploaded
from tasks.errors import ClusterError, DigestError

if TYPE_CHECKING:
    import xgboost

_log = logging.getLogger(__name__)
_CELLS = 4_000_000  # contributions computed at a time, 16 MB: a row has (features + 1) x classes of them


def predict(model: bytes, matrix: np.ndarray, *, encoding: Encoding, threads: int) -> np.ndarray:
    """Predictions of a model for an encoded matrix, on the CPU. See `Predictor`."""
    return Predictor(model, encoding=encoding, threads=threads).predict(matrix)


@lru_cache(maxsize=1)
def scoring_device() -> Device:
    """The GPU where there is one, whatever the number of rows: a backfill equals what the daily runs published.

    Said in the log once.

    Limitation: no lock is held. Scoring needs little of a GPU's memory, so it shares one with whoever trains there;
    one that is full fails the step with an error that a retry may mend.
    """
    found, why = find_gpus()
    _log.info("scoring on %s", "a GPU" if found else f"the CPU: {why}")
    return "cuda" if found else "cpu"


class Predictor:
    """A model that is parsed once and scores many batches; not for several threads at a time.

    Args:
        model: XGBoost's own format (UBJ).
        encoding: the model's own; names and kinds are compared with the model's.
        threads: threads that XGBoost may use on the CPU.
        device: where it runs.

    Raises:
        DigestError: the bytes are no model, or not of this encoding.
        ClusterError: XGBoost does not use the device.
    """

    def __init__(self, model: bytes, *, encoding: Encoding, threads: int, device: Device = "cpu") -> None:
        self.encoding = encoding
        self.device = device
        self._threads = threads
        self._booster, self.classes = _load(model, threads, device)
        found = tuple(self._booster.feature_names or ()), tuple(self._booster.feature_types or ())
        if found != (encoding.columns, encoding.kinds):
            raise DigestError(
                "the model was not trained with this encoding: names or kinds of its features differ",
                hint="read model and encoding from the same version's descriptor",
            )

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Predictions.

        Args:
            matrix: float32, shape (rows, features), as `encode` gives it.

        Returns:
            float32, shape (rows,): a probability for binary:logistic, the value for a regression; shape
            (rows, classes), rows summing to 1, for multi:softprob.
        """
        if len(matrix) == 0:
            return np.empty((0, self.classes) if self.classes else (0,), dtype=np.float32)
        if self.device == "cuda":
            return self._on_device(
                lambda: downloaded(self._booster.inplace_predict(uploaded(matrix), validate_features=False))
            )
        return self._booster.inplace_predict(matrix, validate_features=False)

    def contributions(self, matrix: np.ndarray, *, chosen: np.ndarray | None = None) -> np.ndarray:
        """SHAP values, XGBoost's own (TreeSHAP; GPUTreeShap on the device): what each feature adds to the margin.

        Args:
            matrix: as in `predict`.
            chosen: for several classes, the class of each row whose margin is explained; shape (rows,).

        Returns:
            float32, shape (rows, features + 1); the last column is the bias. A row sums to its margin.
        """
        width = len(self.encoding.columns) + 1
        found = np.empty((len(matrix), width), dtype=np.float32)
        step = max(1, _CELLS // (width * max(1, self.classes)))
        for start in range(0, len(matrix), step):
            part = slice(start, start + step)
            rows = matrix[part]
            values = self._on_device(lambda rows=rows: self._booster.predict(self._matrix(rows), pred_contribs=True))
            found[part] = values if chosen is None else values[np.arange(len(values)), chosen[part]]
        return found

    def _on_device(self, work: Callable[[], np.ndarray]) -> np.ndarray:
        import xgboost

        try:
            return work()
        except (xgboost.core.XGBoostError, MemoryError, RuntimeError) as error:  # the latter two are cupy's
            if self.device == "cpu":
                raise
            raise ClusterError(
                f"the GPU failed in scoring: {str(error).splitlines()[0]}",
                hint="a training may fill it; run the step again",
            ) from error

    def _matrix(self, matrix: np.ndarray) -> xgboost.DMatrix:
        import xgboost

        return xgboost.DMatrix(
            uploaded(matrix) if self.device == "cuda" else matrix,
            feature_names=list(self.encoding.columns),
            feature_types=list(self.encoding.kinds),
            enable_categorical=True,
            nthread=self._threads,
        )


# One model scores many partitions in a row: it is parsed once.
@lru_cache(maxsize=4)
def _load(model: bytes, threads: int, device: Device):
    """(Booster, number of classes or 0)."""
    import xgboost

    booster = xgboost.Booster({"nthread": threads, "device": device})
    try:
        booster.load_model(bytearray(model))
    except xgboost.core.XGBoostError as error:
        raise DigestError(f"{len(model)} bytes are no XGBoost model: {str(error).splitlines()[0]}") from error
    learner = json.loads(booster.save_config())["learner"]
    used = learner["generic_param"]["device"].split(":")[0]
    if used != device:
        raise ClusterError(f"scoring was to run on {device}, the booster says {used}")
    return booster, int(learner["learner_model_param"]["num_class"])
