"""Rows on their way to a GPU: XGBoost quantises and predicts there only what lies there already.

Of rows in the host's memory it makes its histograms on the processors, and refuses them for external memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import cupy


def uploaded(matrix: np.ndarray) -> cupy.ndarray:
    """A copy of a matrix in the memory of the process's GPU, rows and columns laid out as they are."""
    import cupy

    return cupy.asarray(np.asarray(matrix))


def downloaded(values: cupy.ndarray) -> np.ndarray:
    """A copy of what the GPU computed."""
    import cupy

    return cupy.asnumpy(values)


def give_back() -> None:
    """Give the GPU back the memory of copies that are gone; cupy would keep it for the next ones."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
