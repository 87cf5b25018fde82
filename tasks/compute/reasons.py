"""The reasons of a prediction: the features that moved it most."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.compute.encoding import Encoding


def top_reasons(contributions: np.ndarray, rows: pa.RecordBatch, encoding: Encoding, *, count: int) -> pa.ListArray:
    """The features with the largest absolute contributions, the largest first; of equal ones the model's earlier.

    Args:
        contributions: shape (rows, features + 1), as `Predictor.contributions` gives them; in units of the margin.
        rows: the feature rows; a value is told as it stands there, in text.
        encoding: the model's.
        count: reasons of a row; a model with fewer features gives as many as it has.

    Returns:
        For each row a list of structs: feature, value (null where it is missing), contribution.
    """
    names = encoding.columns
    count = min(count, len(names))
    shap = contributions[:, : len(names)]
    top = np.argsort(-np.abs(shap), axis=1, kind="stable")[:, :count]
    flat = top.ravel()
    structs = pa.StructArray.from_arrays(
        [
            pa.array(names, pa.string()).take(pa.array(flat)),
            _values(flat, rows, names, count),
            pa.array(np.take_along_axis(shap, top, axis=1).ravel().astype("float64")),
        ],
        names=["feature", "value", "contribution"],
    )
    offsets = np.arange(len(top) + 1, dtype=np.int32) * count
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def _values(flat: np.ndarray, rows: pa.RecordBatch, names: tuple[str, ...], count: int) -> pa.Array:
    """The value of feature `flat[i]` in row `i // count`, as text: column by column, then put in order."""
    places, texts = [np.empty(0, dtype=np.int64)], [pa.array([], pa.string())]
    for number, name in enumerate(names):
        at = np.flatnonzero(flat == number)
        if len(at):
            places.append(at)
            texts.append(_text(rows.column(name)).take(pa.array(at // count)))
    order = np.empty(len(flat), dtype=np.int64)
    order[np.concatenate(places)] = np.arange(len(flat))
    return pa.concat_arrays(texts).take(pa.array(order))


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())
