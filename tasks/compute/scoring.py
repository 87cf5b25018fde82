"""Feature rows in, predictions out, batch by batch: reading, predicting and writing overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tasks.compute.ahead import ahead
from tasks.compute.encoding import Encoding, encode
from tasks.compute.predict import Predictor
from tasks.compute.reasons import top_reasons

K = TypeVar("K")


def score_batches(
    batches: Iterable[tuple[K, pa.RecordBatch]],
    predictor: Predictor,
    *,
    entity: Sequence[str],
    classes: Sequence[str],
    model_version: int,
    reasons: int = 0,
) -> Iterator[tuple[K, pa.RecordBatch]]:
    """The predictions of batches, in their order and each under its key.

    The next batch is read and encoded in one thread while this one is predicted in another and the one before
    is being used by the caller: no more than five are in memory.

    Args:
        batches: rows with the entity's columns and the encoding's.
        predictor: the model.
        entity: columns that are kept.
        classes: the labels of a model of several classes, in the model's order; else empty.
        model_version: said on each row.
        reasons: reasons on each row; 0 for no such column.
    """
    encoded = ahead(_encoded(batches, predictor.encoding), name="read-and-encode")
    return ahead(_predicted(encoded, predictor, entity, classes, model_version, reasons), name="predict")


def _encoded(batches, encoding: Encoding):
    for key, rows in batches:
        yield key, rows, encode(rows, encoding)


def _predicted(encoded, predictor: Predictor, entity, classes, model_version: int, reasons: int):
    for key, rows, matrix in encoded:
        scores = predictor.predict(matrix)
        columns = {name: rows.column(name) for name in entity}
        best = None
        if classes:
            best = scores.argmax(axis=1)
            columns["score"] = pa.array(scores.max(axis=1).astype("float64"))
            columns["predicted"] = pa.array(classes, pa.string()).take(pa.array(best))
            offsets = np.arange(len(scores) + 1, dtype=np.int32) * len(classes)
            flat = pa.array(scores.ravel().astype("float64"))
            columns["scores"] = pa.ListArray.from_arrays(pa.array(offsets), flat)
        else:
            columns["score"] = pa.array(scores.astype("float64"))
        if reasons:
            contributions = predictor.contributions(matrix, chosen=best)
            columns["reasons"] = top_reasons(contributions, rows, predictor.encoding, count=reasons)
        columns["model_version"] = pa.array(np.full(len(rows), model_version, dtype=np.int64))
        yield key, pa.RecordBatch.from_pydict(columns)
