"""From feature tables to the matrix that XGBoost sees: fixed at training, kept with the version.

Strings become the index of their category, categories being those of the training data in sorted
order; a category that training did not see is a missing value. The category texts stay here, in the
version's descriptor, and out of the model's bytes: they may be personal data, and the bytes are kept
under a digest for as long as the version is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from tasks.errors import SpecError

QUANTITY, CATEGORY = "q", "c"


@dataclass(frozen=True)
class Encoding:
    """How columns become a matrix.

    Attributes:
        columns: feature names in the matrix's order.
        kinds: "q" (a quantity) or "c" (a category's index) for each column: XGBoost's feature types.
        categories: for each "c" column its categories, sorted; a category's index is its place.
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "columns": list(self.columns),
            "kinds": list(self.kinds),
            "categories": {name: list(values) for name, values in self.categories.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Encoding:
        categories = {name: tuple(texts) for name, texts in values["categories"].items()}
        return cls(tuple(values["columns"]), tuple(values["kinds"]), categories)


def fit_encoding(data: pa.Table | Iterable[pa.Table | pa.RecordBatch], features: Iterable[str]) -> Encoding:
    """The encoding of training data.

    Args:
        data: a table, or an iterable of tables or record batches with the same columns.
        features: the feature columns, in the matrix's order.

    Raises:
        SpecError: a feature is missing, or of a type that no matrix holds; no data at all.
    """
    names = tuple(features)
    kinds: dict[str, str] = {}
    seen: dict[str, set[str]] = {}
    for part in [data] if isinstance(data, pa.Table) else data:
        for name in names:
            kind = kind_of(name, _type_of(part, name))
            # A column of a chunk without any value has Arrow's null type: it says nothing about the kind.
            if kind is not None and kinds.setdefault(name, kind) != kind:
                raise SpecError(
                    f"feature {name!r} is text in one part of the data and a number in another",
                    hint="cast it to one type in the feature SQL",
                )
            if kind == CATEGORY:
                seen.setdefault(name, set()).update(_texts(part.column(name)))
    return encoding_of({name: kinds.get(name, QUANTITY) for name in names}, seen)


def encoding_of(kinds: Mapping[str, str], categories: Mapping[str, Iterable[str]]) -> Encoding:
    """An encoding from kinds by column, in the matrix's order, and the categories found."""
    if not kinds:
        raise SpecError("no feature column", hint="the feature SQL must give at least one column besides the entity")
    fitted = {name: tuple(sorted(categories.get(name, ()))) for name, kind in kinds.items() if kind == CATEGORY}
    return Encoding(tuple(kinds), tuple(kinds.values()), fitted)


def encode(table: pa.Table | pa.RecordBatch, encoding: Encoding, *, out: np.ndarray | None = None) -> np.ndarray:
    """The matrix of a table.

    Args:
        table: has at least the encoding's columns; others are ignored.
        out: a matrix to fill, of the shape that is returned.

    Returns:
        float32, shape (rows, features), column-major: it is filled twice as fast, and XGBoost predicts from
        either alike. NaN is a missing value: a null, a category that the encoding does not know, or an
        infinity (XGBoost refuses infinities).

    Raises:
        SpecError: a column is missing, or its type does not fit its kind.
    """
    matrix = np.empty((table.num_rows, len(encoding.columns)), dtype=np.float32, order="F") if out is None else out
    for place, (name, kind) in enumerate(zip(encoding.columns, encoding.kinds, strict=True)):
        found = kind_of(name, _type_of(table, name))
        if found not in (kind, None):
            expected = "text" if kind == CATEGORY else "numbers"
            raise SpecError(
                f"feature {name!r} is of type {_type_of(table, name)}, the model was trained on {expected}",
                hint="give the changed column a new name, or train again",
            )
        if found is None:
            matrix[:, place] = np.nan
        elif kind == CATEGORY:
            matrix[:, place] = _codes(table.column(name), encoding.categories[name])
        else:
            matrix[:, place] = _numbers(table.column(name))
    return matrix


def kind_of(name: str, kind: pa.DataType) -> str | None:
    """The kind of a feature of an Arrow type; None for Arrow's null type, a column without any value.

    Raises:
        SpecError: the type is neither text nor a number nor a bool.
    """
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_null(kind):
        return None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return CATEGORY
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return QUANTITY
    moment = types.is_temporal(kind)
    raise SpecError(
        f"feature {name!r} is of type {kind}: a model takes numbers, bools and texts",
        hint="turn it into numbers in the feature SQL, for instance hour(...) or date_diff(...)"
        if moment
        else "turn it into a number or a text in the feature SQL",
    )


def _type_of(table: pa.Table | pa.RecordBatch, name: str) -> pa.DataType:
    index = table.schema.get_field_index(name)
    if index < 0:
        raise SpecError(
            f"feature {name!r} is not in the data, which has {', '.join(table.schema.names)}",
            hint="the feature SQL must give every column of its view, once",
        )
    return table.schema.field(index).type


def _texts(column: pa.ChunkedArray | pa.Array) -> list[str]:
    values = pc.unique(column)
    if types.is_dictionary(values.type):
        values = pc.unique(values.cast(values.type.value_type))
    return [value for value in values.to_pylist() if value is not None]


def _codes(column: pa.ChunkedArray | pa.Array, categories: tuple[str, ...]) -> np.ndarray:
    known = pa.array(categories, pa.large_string())
    if not types.is_dictionary(column.type):
        return _places(column, known)
    # each text once, however many rows have it
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [np.empty(0, np.float32)]
    for chunk in chunks:
        codes = np.append(_places(chunk.dictionary, known), np.float32("nan"))  # the last one stands for a null
        indices = chunk.indices.cast(pa.int64())
        parts.append(codes[indices.fill_null(len(codes) - 1).to_numpy()])
    return np.concatenate(parts)


def _places(texts: pa.ChunkedArray | pa.Array, known: pa.Array) -> np.ndarray:
    """The place of each text among the known ones, NaN where it is not."""
    codes = pc.index_in(texts.cast(known.type), value_set=known, skip_nulls=True)
    return codes.cast(pa.float32(), safe=False).to_numpy(**_copying(codes))


def _numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if not types.is_floating(column.type):  # through float64: a decimal has no direct way to float32
        column = column.cast(pa.float64(), safe=False)
    values = column.to_numpy(**_copying(column))
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    values[np.isinf(values)] = np.nan
    return values


def _copying(column: pa.ChunkedArray | pa.Array) -> dict[str, bool]:
    # An Array refuses to copy unless told to; a ChunkedArray always copies and knows no such word.
    return {} if isinstance(column, pa.ChunkedArray) else {"zero_copy_only": False}
