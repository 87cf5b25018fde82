"""What of a training process's errors reaches the step: whose fault it was, in a line."""

from __future__ import annotations

import pickle

import pytest
from xgboost.core import XGBoostError

from tasks.compute.single import first_line, portable
from tasks.errors import ClusterError, MemoryShortError, PeerLostError, StorageError, TrainingError

PEER = """[03:58:04] /__w/xgboost/xgboost/src/collective/result.cc:83: [coll_c_api.cc:38|03:58:04]:

- [allreduce.cc:135|03:58:04]: Ring Allreduce failed.
- [allreduce.cc:101|03:58:04]: Ring scatter reduce failed, current iteration:0
- [socket.h:79|03:58:04]: Poll error condition:Success code:0
Stack trace:
  [bt] (0) /somewhere/lib/libxgboost.so(+0x2c1a8c) [0x7f30d6ec1a8c]
"""
"""As XGBoost 3.2 says it when a peer is gone; the header's second part names who called: a histogram, say."""
DATA = """[12:00:00] /__w/xgboost/xgboost/src/objective/regression_obj.cu:120: label must be in [0,1] for logistic regression
Stack trace:
  [bt] (0) /somewhere/lib/libxgboost.so(+0x2c1a8c) [0x7f30d6ec1a8c]
"""


@pytest.mark.parametrize("caller", ["coll_c_api.cc:38", "histogram.h:197", "quantile.cc:12"])
def test_a_peers_end_is_no_fault_of_the_data_whoever_called(caller: str):
    error = portable(XGBoostError(PEER.replace("coll_c_api.cc:38", caller)))
    assert type(error) is PeerLostError and error.retry
    assert "lost: Ring Allreduce failed. Poll error condition:Success code:0" in error.message


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (XGBoostError(DATA), TrainingError, "XGBoost: label must be in [0,1] for logistic regression"),
        (XGBoostError("[12:00:00] /x/y.cu:1: cudaErrorMemoryAllocation: out of memory"), MemoryShortError, "cudaError"),
        (RuntimeError("cudaErrorIllegalAddress: an illegal memory access"), ClusterError, "cudaErrorIllegalAddress"),
        (MemoryError("std::bad_alloc"), MemoryShortError, "std::bad_alloc"),
        (OSError(28, "No space left on device"), ClusterError, "[Errno 28] No space left on device"),
        (FileNotFoundError("There is no object a/b"), ClusterError, "There is no object a/b"),
        (StorageError("the store is gone"), StorageError, "the store is gone"),
        (RuntimeError("something else"), RuntimeError, "something else"),
    ],
)
def test_each_error_reaches_the_step_as_what_it_is(error: BaseException, kind: type, told: str):
    found = pickle.loads(pickle.dumps(portable(error)))
    assert type(found) is kind and told in str(found)


def test_an_error_without_words_is_told_by_its_name():
    assert first_line(MemoryError()) == "MemoryError"
