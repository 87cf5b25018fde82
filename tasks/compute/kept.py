"""Batches of a training, read and encoded once, by threads that run ahead of XGBoost, and kept in scratch files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tasks.compute.encoding import Encoding
from tasks.compute.rows import RowGroup, TrainingData, batch_rows, batches_of, read_rows


class KeptBatches:
    """The batches of a hand of row groups, in scratch files that are mapped, not held: memory is a batch for each thread.

    XGBoost only counts when it asks for the data first, and processors are idle then: what comes next is read meanwhile.

    Args:
        data: the files.
        encoding: of the features.
        whole: whether every label must be a whole number.
        folder: exists and is empty.
        readers: threads that read and encode.
    """

    def __init__(
        self,
        hand: Sequence[RowGroup],
        data: TrainingData,
        encoding: Encoding,
        *,
        whole: bool,
        folder: Path,
        readers: int = 2,
    ) -> None:
        import pyarrow.parquet  # noqa: F401  not in the threads, beside an import of XGBoost in this one

        self._hand = batches_of(hand, batch_rows(len(encoding.columns)))
        self._data, self._encoding, self._whole, self._folder = data, encoding, whole, folder
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="read-and-encode")
        self._written = [self._pool.submit(self._write, place) for place in range(len(self._hand))]

    def __len__(self) -> int:
        return len(self._hand)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and labels of a batch, as `read_rows` gives them; waits for them.

        Raises:
            TrainingError: as `read_rows`.
        """
        self._written[place].result()
        matrix, label = self._files(place)
        return np.load(matrix, mmap_mode="r"), np.load(label)

    def close(self) -> None:
        """Read no further, and remove the files."""
        self._pool.shutdown(cancel_futures=True)
        for place in range(len(self)):
            for file in self._files(place):
                file.unlink(missing_ok=True)

    def _write(self, place: int) -> None:
        matrix, label = read_rows(self._hand[place], self._data, self._encoding, whole=self._whole)
        for file, values in zip(self._files(place), (matrix, label), strict=True):
            np.save(file, values)

    def _files(self, place: int) -> tuple[Path, Path]:
        return self._folder / f"{place:06d}.npy", self._folder / f"{place:06d}.label.npy"
