"""The challenger's gain on slices of the holdout: the rows of each value of one column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.compute.metrics import UNBOUNDED, Gain, metric, paired_block_bootstrap
from tasks.errors import TrainingError

MOST = 200
"""Slices that are judged, the largest ones: each costs a bootstrap, and nobody reads a longer table."""


@dataclass(frozen=True)
class Slice:
    """One slice.

    Attributes:
        value: of the column, as text; None where it is null.
        rows: of the holdout.
        challenger, champion: their metric; None where nothing was judged.
        gain: None where nothing was judged.
        why: it was not judged; else empty.
    """

    value: str | None
    rows: int
    challenger: float | None = None
    champion: float | None = None
    gain: Gain | None = None
    why: str = ""


def slice_gains(
    name: str,
    y: np.ndarray,
    p_challenger: np.ndarray,
    p_champion: np.ndarray,
    blocks: np.ndarray,
    values: pa.Array | pa.ChunkedArray,
    *,
    min_rows: int,
    repeats: int,
    confidence: float,
    seed: int,
) -> list[Slice]:
    """Each slice with its gain, or why it has none; the largest first.

    Args:
        name, y, p_challenger, p_champion, blocks, repeats, confidence, seed: see `paired_block_bootstrap`.
        values: of the column, one for each row.
        min_rows: slices with fewer are not judged.
    """
    codes = pc.dictionary_encode(values, null_encoding="encode")
    if isinstance(codes, pa.ChunkedArray):
        codes = codes.unify_dictionaries().combine_chunks()
    words = [None if word is None else _text(word) for word in codes.dictionary.to_pylist()]
    home = codes.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(home, kind="stable")
    places = np.split(order, np.cumsum(np.bincount(home, minlength=len(words)))[:-1]) if len(words) else []
    found = []
    by_size = sorted(range(len(words)), key=lambda code: (-len(places[code]), words[code] or ""))
    for number, code in enumerate(by_size):
        rows, word = places[code], words[code]
        if len(rows) < min_rows:
            found.append(Slice(word, len(rows), why=f"fewer than {min_rows} rows"))
        elif number >= MOST:
            found.append(Slice(word, len(rows), why=f"not among the {MOST} largest"))
        else:
            ours, theirs = p_challenger[rows], p_champion[rows]
            try:
                gain = paired_block_bootstrap(
                    name, y[rows], ours, theirs, blocks[rows], repeats=repeats, confidence=confidence, seed=seed
                )
            except TrainingError:
                found.append(Slice(word, len(rows), why=f"{name} has no value on it: its labels are of one class"))
                continue
            if gain.high >= UNBOUNDED:
                found.append(
                    Slice(word, len(rows), why="it lies in one day or partition, or has no value in most draws")
                )
                continue
            found.append(Slice(word, len(rows), metric(name, y[rows], ours), metric(name, y[rows], theirs), gain))
    return found


def _text(word: object) -> str:
    return str(word).lower() if isinstance(word, bool) else str(word)
