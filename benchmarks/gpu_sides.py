"""The sides of the GPU's suite, `benchmarks.gpu`: each runs in a process of its own and answers for itself."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.flights import FEATURES, FILE_ROWS, flights
from benchmarks.measure import answer, cores, family, say
from benchmarks.training import PARAMS, encoded, frame_of, seen_of

if TYPE_CHECKING:
    from tests.support.dask_processes import DaskProcesses

BATCH = 65_536
"""As the settings' score_batch_rows."""
CLUSTER = "Dask workers"
OUTSIDE = "workers of an outside scheduler"
_UPLOAD = 1 << 28


def size_of_file(rows: int) -> int:
    return min(rows, FILE_ROWS)


@contextmanager
def place(where: str, device: str, folder: Path) -> Iterator:
    """One process, or a Dask cluster of every GPU (two workers on the CPU), local or of an outside scheduler."""
    from tasks.compute.cluster import open_cluster
    from tasks.compute.single import Single

    names = _gpus(device)
    if where == "one process":
        yield Single(device, cores(), folder, gpu=names[0] if names else None)
        return
    arguments = {"workers": 2, "threads": cores(), "memory_limit": "0" if names else "2GiB", "workdir": folder}
    if where == CLUSTER:
        with open_cluster(scheduler=None, gpus=names, **arguments) as running:
            yield running
        return
    with (
        _outside(names, folder) as outside,
        open_cluster(scheduler=outside.address, gpus=len(names), **arguments) as running,
    ):
        yield running


def _gpus(device: str) -> list[str]:
    """UUIDs; none on the CPU."""
    from tasks.compute.devices import find_gpus

    found, why = find_gpus() if device == "cuda" else ([], "")
    if device == "cuda" and not found:
        raise SystemExit(f"there is no GPU: {why}")
    return [gpu.uuid for gpu in found]


def _outside(names: list[str], folder: Path) -> AbstractContextManager[DaskProcesses]:
    """A scheduler and, for each GPU, a `dask cuda worker`; two workers without one."""
    from tests.support.dask_processes import dask_processes

    (folder / "dask").mkdir()
    return dask_processes(folder / "dask", workers=len(names) or 2, gpus=names)


def _checks(words: argparse.Namespace, folder: Path) -> None:
    from tests.support.cluster_checks import CHECKS, CLUSTER_CHECKS, SINGLE_CHECKS

    checks, failed = CHECKS + (SINGLE_CHECKS if words.place == "one process" else CLUSTER_CHECKS), []
    with place(words.place, words.device, folder) as running:
        for check in checks:
            say(f"    {check.__name__}")
            try:
                check(running, folder / check.__name__)
            except Exception:
                traceback.print_exc()
                failed.append(check.__name__)
    answer(passed=len(checks) - len(failed), failed=failed)


def _ours(words: argparse.Namespace, folder: Path, *, wish: str = "auto") -> None:
    import tasks.compute.places  # noqa: F401  before the clock, as the others' imports are

    began = time.monotonic()
    trained = _train(words, folder, wish=wish)
    answer(seconds=time.monotonic() - began, rows=trained.rows)


def _external(words: argparse.Namespace, folder: Path) -> None:
    _ours(words, folder, wish="external")


def _train(
    words: argparse.Namespace,
    folder: Path,
    *,
    wish: str = "auto",
    scheduler: str | None = None,
    say: Callable[[str], None] = say,
    **more,
):
    """As `tasks.train` does, from its files on."""
    from tasks.compute.places import Means, open_place
    from tasks.compute.rows import TrainingData
    from tasks.compute.sizing import Shape
    from tasks.compute.train import Recipe, train

    files = flights(words.folder, words.rows, size=size_of_file(words.rows))
    encoding, seen = seen_of(files)
    shape = Shape(seen.rows, len(FEATURES), PARAMS["max_bin"])
    # a cluster on the processors has two workers
    means = Means(
        folder=folder, threads=cores(), workers=2 if wish == "cluster" else 1, memory_limit="0", scheduler=scheduler
    )
    trained = train(
        lambda: open_place(shape, means, wish=wish, gpus=1 if words.device == "cuda" else 0, say=say),
        TrainingData(tuple(map(str, files))),
        seen=seen,
        encoding=encoding,
        recipe=Recipe("binary:logistic", PARAMS, words.rounds, seed=0),
        say=say,
        **more,
    )
    assert (trained.device, trained.rounds) == (words.device, words.rounds)
    return trained


def _plain(words: argparse.Namespace, folder: Path) -> None:
    import xgboost

    files = flights(words.folder, words.rows, size=size_of_file(words.rows))
    features, label, kinds = encoded(files, files)
    if words.device == "cuda":
        import cupy  # noqa: F401  before the clock

    began = time.monotonic()
    if words.device == "cuda":
        features = cupy.asarray(features)
    matrix = xgboost.QuantileDMatrix(features, label, feature_types=kinds, enable_categorical=True, max_bin=256)
    _boost(words, matrix)
    answer(seconds=time.monotonic() - began)


def _files(words: argparse.Namespace, folder: Path) -> None:
    import xgboost

    files = flights(words.folder, words.rows, size=size_of_file(words.rows))
    began = time.monotonic()
    frame = frame_of(files)
    label = frame.pop("label")
    _boost(words, xgboost.QuantileDMatrix(frame, label, enable_categorical=True, max_bin=256))
    answer(seconds=time.monotonic() - began)


def _boost(words: argparse.Namespace, matrix) -> None:
    import xgboost

    params = {"objective": "binary:logistic", "tree_method": "hist", "device": words.device, "nthread": cores()}
    xgboost.train({**params, **PARAMS}, matrix, words.rounds)


def _cluster(words: argparse.Namespace, folder: Path) -> None:
    import dask  # noqa: F401, TID253  imports are not the start-up
    import distributed  # noqa: F401, TID253

    if words.device == "cuda":
        import dask_cuda  # noqa: F401, TID253
    began = time.monotonic()
    with place(CLUSTER, words.device, folder):
        seconds = time.monotonic() - began
    answer(seconds=seconds)


def _score(words: argparse.Namespace, folder: Path) -> None:
    rates = {}
    model, encoding, matrix = _model(words, folder)
    for device in (words.device, "cpu"):
        predictor = _predictor(model, encoding, device)
        predictor.predict(matrix[:BATCH])  # the context
        began = time.monotonic()
        for start in range(0, len(matrix), BATCH):
            predictor.predict(matrix[start : start + BATCH])
        rates[device] = len(matrix) / (time.monotonic() - began)
    answer(rate=rates[words.device], cpu=rates["cpu"], upload=upload(words.device))


def _shap(words: argparse.Namespace, folder: Path) -> None:
    model, encoding, matrix = _model(words, folder)
    predictor = _predictor(model, encoding, words.device)
    matrix = matrix[: 1_000_000 if words.device == "cuda" else 20_000]
    predictor.contributions(matrix[:1000])
    began = time.monotonic()
    predictor.contributions(matrix)
    answer(rate=len(matrix) / (time.monotonic() - began))


def _model(words: argparse.Namespace, folder: Path):
    """(a model, its encoding, encoded rows): at most ten million, column by column as the step encodes them."""
    rows = argparse.Namespace(**{**vars(words), "rows": min(words.rows, 10 * FILE_ROWS)})
    files = flights(words.folder, rows.rows, size=size_of_file(rows.rows))
    matrix, _, _ = encoded(files, files)
    return _train(rows, folder).model, seen_of(files)[0], np.asfortranarray(matrix)


def _predictor(model: bytes, encoding, device: str):
    from tasks.compute.predict import Predictor

    return Predictor(model, encoding=encoding, threads=cores(), device=device)


def upload(device: str) -> float:
    """Bytes per second from the host's memory to the device's; on the CPU of a copy in memory."""
    source = np.ones(_UPLOAD, dtype=np.uint8)
    copy = _cuda_copy(source) if device == "cuda" else lambda: source.copy()
    copy()
    began = time.monotonic()
    for _ in range(8):
        copy()
    return 8 * source.nbytes / (time.monotonic() - began)


def _cuda_copy(source: np.ndarray) -> Callable[[], None]:
    """The driver's own call, by its C interface: no library of ours lies between."""
    driver = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments) -> None:
        status = getattr(driver, name)(*arguments)
        if status:
            raise SystemExit(f"{name} failed with {status}")

    number, context, target = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(number), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
    call("cuCtxSetCurrent", context)
    call("cuMemAlloc_v2", ctypes.byref(target), ctypes.c_size_t(source.nbytes))
    return lambda: call("cuMemcpyHtoD_v2", target, ctypes.c_void_p(source.ctypes.data), ctypes.c_size_t(source.nbytes))


def _resume(words: argparse.Namespace, folder: Path) -> None:
    """The training's process or worker is killed once there is a checkpoint; the same call goes on from it."""
    from tasks.compute.checkpoints import Checkpoints
    from tasks.lake.objects import FolderStore

    kept = Checkpoints(FolderStore(folder / "store"), "training", every=max(1, words.rounds // 5))

    def kill(end: Callable[[], None]) -> None:
        while kept.latest() is None:
            time.sleep(0.005)
        end()

    with ExitStack() as stack:
        given, end = {"wish": "auto" if words.place == "one process" else "cluster"}, _end_children
        if words.place == OUTSIDE:
            outside = stack.enter_context(_outside(_gpus(words.device), folder))
            given["scheduler"], end = outside.address, partial(_end_workers, outside)
        threading.Thread(target=kill, args=(end,), daemon=True).start()
        began = time.monotonic()
        trained = _train(words, folder, checkpoints=kept, attempts=3, **given)
        seconds = time.monotonic() - began
    assert trained.resumed_from, "it was over before it was killed: more rounds are needed"
    answer(seconds=seconds, resumed=trained.resumed_from)


def _end_workers(outside: DaskProcesses) -> None:
    for number in range(outside.workers):  # a training of few rows takes one of them
        outside.kill_worker(number)


def _end_children() -> None:
    for pid in family(os.getpid())[1:]:
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def _both(words: argparse.Namespace, folder: Path) -> None:
    """Two trainings at once on one GPU: the locks are files, so that two threads stand for two tasks."""
    ended: list[float] = []
    told: list[float] = []

    def hear(text: str) -> None:
        say(text)
        if text.startswith("waiting for 1 GPU"):
            told.append(time.monotonic())

    def train(name: str) -> None:
        (folder / name).mkdir()
        _train(words, folder / name, say=hear)
        ended.append(time.monotonic())

    both = [threading.Thread(target=train, args=(name,)) for name in ("first", "second")]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(ended) == 2 and len(told) == 1, "none waited"
    answer(waited=min(ended) - told[0])


SIDES = {
    "checks": _checks,
    "ours": _ours,
    "plain": _plain,
    "files": _files,
    "external": _external,
    "cluster": _cluster,
    "score": _score,
    "shap": _shap,
    "resume": _resume,
    "both": _both,
}
