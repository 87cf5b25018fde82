"""What scoring with a model takes: time, size, memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.compute.encoding import Encoding, encode
from tasks.compute.machine import resident
from tasks.compute.predict import Predictor

REPEATS = 3
"""Measurements of which the fastest counts: others only add what else the machine did."""
MOST_ROWS = 100_000
"""Rows that are measured."""


@dataclass(frozen=True)
class Inference:
    """What one model took.

    Attributes:
        ms_per_1000_rows: milliseconds of encoding and predicting 1,000 rows.
        model_bytes: size of the model.
        memory_bytes: by how much the process grew at most while it loaded the model and predicted; memory that
            it had and did not use counts as nothing. None where the system doesn't tell.
    """

    ms_per_1000_rows: float
    model_bytes: int
    memory_bytes: int | None


def predict_measured(model: bytes, rows: pa.Table, *, encoding: Encoding, threads: int) -> tuple[np.ndarray, Inference]:
    """Predictions as `predict` gives them, on the CPU, and what they took.

    Args:
        rows: at least one; all are predicted, the first MOST_ROWS are timed again.
    """
    before, known = resident(), _forget_peak()
    predictor = Predictor(model, encoding=encoding, threads=threads)
    scores = predictor.predict(encode(rows, encoding))
    memory = max(0, _peak() - before) if known else None
    some = rows.slice(0, MOST_ROWS)
    seconds = min(_timed(predictor, some) for _ in range(REPEATS))
    return scores, Inference(seconds * 1e6 / some.num_rows, len(model), memory)


def _timed(predictor: Predictor, rows: pa.Table) -> float:
    began = time.perf_counter()
    predictor.predict(encode(rows, predictor.encoding))
    return time.perf_counter() - began


def _forget_peak() -> bool:
    """Let the kernel count this process's largest memory anew; whether it does (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _peak() > 0
    except OSError:
        return False


def _peak() -> int:
    """Bytes of memory that this process held at most since then; 0 where it isn't told."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
