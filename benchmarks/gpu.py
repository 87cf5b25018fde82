"""The suite for a machine with a GPU: `python -m benchmarks.gpu` from a copy of the repository.

Where that machine has no package index: one command elsewhere, with a Python of the same version (3.11 to 3.13) and
on the same kind of processor and system as the machine's, since wheels are made for one:
`python3.12 -m pip wheel -w wheels -r benchmarks/gpu-requirements.txt`. Carry the wheels with the repository; there are
three more: `python3.12 -m venv env`,
`env/bin/pip install --no-index --find-links wheels -r benchmarks/gpu-requirements.txt` and
`env/bin/python -m benchmarks.gpu`. Airflow, MLflow, Great Expectations, DuckDB and Delta are not needed.

It prints a table: the behaviour suite of every place of training on one GPU and on a Dask-CUDA cluster; training
of each `--rows` against plain XGBoost on the same GPU; the cluster's start-up; scoring against the device's own
upload; SHAP values; a training that is killed and goes on. Each side is a process of its own. All but the cluster's
run on one GPU, the first that no training holds, and its memory is what the table tells.
`--device cpu` runs the same code on the processors, which is how it is tested where there is no GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import inspect
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.flights import FEATURES, FILE_ROWS, flights
from benchmarks.measure import Figure, Part, Ran, answer, cores, family, of, ratios, rounds, run, say
from benchmarks.training import PARAMS, encoded

BATCH = 65_536
"""As the settings' score_batch_rows."""
CLUSTER = "Dask workers"
_UPLOAD = 1 << 28


def measure(
    folder: Path, *, device: str = "cuda", rows: tuple[int, ...] = (10_000_000, 100_000_000), boosts: int = 20, times: int = 3
) -> Part:  # fmt: skip
    """Everything on one device."""
    figures, sides, said = [], {}, []
    common = ("--device", device, "--rounds", boosts, "--folder", folder)
    gpu = free_gpu() if device == "cuda" else None
    one = {"CUDA_VISIBLE_DEVICES": gpu} if gpu else None

    def side(name: str, count: int, *more: object) -> Ran:
        seen = None if name == "cluster" or CLUSTER in more else one
        with GpuMemory(gpu) as memory:
            ran = run("benchmarks.gpu", "--side", name, "--rows", count, *common, *more, environment=seen, again=0)
        return Ran({**ran.result, "gpu": memory.peak / 1e9}, ran.peak, ran.private, ran.others)

    for where in ("one process", CLUSTER):
        passed = side("checks", min(rows), "--place", where).result["passed"]
        said.append(f"{passed} checks of tests/support/cluster_checks.py passed on {where} ({device})")
    for count in rows:
        size = _size(count)
        flights(folder, count, size=size)
        found = rounds(times, ("ours", "plain"), lambda name, count=count: side(name, count))
        seconds = {name: of(runs, "seconds") for name, runs in found.items()}
        figures.append(
            Figure(f"training, wall clock ({count:,} rows x {boosts} rounds, {len(FEATURES)} features, {device})",
                   "plain `xgb.train` on the same device, from memory", "≤ 1.10 ×",
                   ratios(seconds["ours"], seconds["plain"]), " ×", most=1.10)
        )  # fmt: skip
        for name, runs in found.items():
            sides[f"train {count:,}: {name}"] = {
                "s": seconds[name],
                "M rows x rounds / s": [count * boosts / one / 1e6 for one in seconds[name]],
                "GB of host at most": [one.peak / 1e9 for one in runs],
                "GB of GPU at most": of(runs, "gpu"),
            }
    least = min(rows)
    runs = [side("cluster", least) for _ in range(times)]
    sides["a Dask cluster starts"] = {"s": of(runs, "seconds")}
    runs = [side("score", least) for _ in range(times)]
    uploads = [one["upload"] / (len(FEATURES) * 4) for one in (run.result for run in runs)]
    figures.append(
        Figure(f"scoring, rows per second ({device})", "the device's own upload of those rows", "",
               ratios(of(runs, "rate"), uploads), " ×")
    )  # fmt: skip
    sides["score"] = {"M rows / s": [one / 1e6 for one in of(runs, "rate")], "GB of GPU at most": of(runs, "gpu")}
    sides["upload of such rows"] = {"M rows / s": [one / 1e6 for one in uploads]}
    runs = [side("shap", least) for _ in range(times)]
    sides["SHAP values"] = {"M rows / s": [one / 1e6 for one in of(runs, "rate")]}
    runs = [side("resume", least) for _ in range(times)]
    sides["killed and gone on"] = {"s": of(runs, "seconds"), "resumed from round": of(runs, "resumed")}
    said.append(f"{cores()} processors; {_device_name(gpu)}")
    return Part(tuple(figures), sides, tuple(said))


def free_gpu() -> str:
    """UUID of the first GPU that no training holds: the one that every side is shown.

    Raises:
        SystemExit: there is no GPU.
        NoPlaceError: other trainings hold them all.
    """
    from tasks.compute.devices import find_gpus, hold_gpus

    found, why = find_gpus()
    if not found:
        raise SystemExit(f"there is no GPU: {why}")
    # given back at once: a side holds it itself
    with hold_gpus([gpu.uuid for gpu in found], 1, patience=0) as held:
        return held.names[0]


class GpuMemory:
    """The most memory of a GPU that was in use within a block; 0 where it is None."""

    def __init__(self, gpu: str | None) -> None:
        self.peak = 0
        self._gpu, self._ended = gpu, threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> GpuMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        if self._gpu is None:
            return
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByUUID(self._gpu)
        while True:
            self.peak = max(self.peak, pynvml.nvmlDeviceGetMemoryInfo(device).used)
            if self._ended.wait(0.05):
                break
        pynvml.nvmlShutdown()


@contextmanager
def place(where: str, device: str, folder: Path) -> Iterator:
    """One process, or a Dask cluster of every GPU (two workers on the CPU)."""
    from tasks.compute.cluster import open_cluster
    from tasks.compute.devices import find_gpus
    from tasks.compute.single import Single

    found, why = find_gpus() if device == "cuda" else ([], "")
    if device == "cuda" and not found:
        raise SystemExit(f"there is no GPU: {why}")
    names = [gpu.uuid for gpu in found]
    if where == "one process":
        yield Single(device, cores(), folder, gpu=names[0] if names else None)
        return
    arguments = {"scheduler": None, "threads": cores(), "memory_limit": "0" if names else "2GiB", "workdir": folder}
    with open_cluster(workers=2, gpus=names, **arguments) as running:
        yield running


def _checks(words: argparse.Namespace, folder: Path) -> None:
    from tests.support.cluster_checks import CHECKS, CLUSTER_CHECKS

    checks = CHECKS if words.place == "one process" else CHECKS + CLUSTER_CHECKS
    with place(words.place, words.device, folder) as running:
        for check in checks:
            say(f"    {check.__name__}")
            check(running, folder / check.__name__)
    answer(passed=len(checks))


def _ours(words: argparse.Namespace, folder: Path) -> None:
    began = time.monotonic()
    trained = _train(words, folder)
    answer(seconds=time.monotonic() - began, rows=trained.rows)


def _train(words: argparse.Namespace, folder: Path, **more):
    """As `tasks.train` does, from its files on."""
    from tasks.compute.places import Means, open_place
    from tasks.compute.rows import TrainingData, fit_encoding_files, survey
    from tasks.compute.sizing import Shape
    from tasks.compute.train import Recipe, train

    data = TrainingData(tuple(map(str, flights(words.folder, words.rows, size=_size(words.rows)))))
    encoding, seen = fit_encoding_files(data, FEATURES), survey(data, FEATURES)
    shape, means = Shape(seen.rows, len(FEATURES), PARAMS["max_bin"]), Means(folder=folder, threads=cores())
    trained = train(
        lambda: open_place(shape, means, wish="auto", gpus=1 if words.device == "cuda" else 0, say=say),
        data,
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

    files = flights(words.folder, words.rows, size=_size(words.rows))
    features, label, kinds = encoded(files, files)
    began = time.monotonic()
    matrix = xgboost.QuantileDMatrix(features, label, feature_types=kinds, enable_categorical=True, max_bin=256)
    params = {"objective": "binary:logistic", "tree_method": "hist", "device": words.device, "nthread": cores()}
    xgboost.train({**params, **PARAMS}, matrix, words.rounds)
    answer(seconds=time.monotonic() - began)


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
    predictor, matrix = _predictor(words, folder)
    predictor.predict(matrix[:BATCH])  # the context
    began = time.monotonic()
    for start in range(0, len(matrix), BATCH):
        predictor.predict(matrix[start : start + BATCH])
    answer(rate=len(matrix) / (time.monotonic() - began), upload=upload(words.device))


def _shap(words: argparse.Namespace, folder: Path) -> None:
    predictor, matrix = _predictor(words, folder)
    matrix = matrix[: 1_000_000 if words.device == "cuda" else 20_000]
    predictor.contributions(matrix[:1000])
    began = time.monotonic()
    predictor.contributions(matrix)
    answer(rate=len(matrix) / (time.monotonic() - began))


def _predictor(words: argparse.Namespace, folder: Path):
    """(a predictor of the device, encoded rows): at most ten million."""
    from tasks.compute.encoding import encode
    from tasks.compute.predict import Predictor
    from tasks.compute.rows import TrainingData, fit_encoding_files

    rows = argparse.Namespace(**{**vars(words), "rows": min(words.rows, 10 * FILE_ROWS)})
    files = flights(words.folder, rows.rows, size=_size(rows.rows))
    encoding = fit_encoding_files(TrainingData(tuple(map(str, files))), FEATURES)
    import pyarrow.parquet as pq

    matrix = np.concatenate([encode(pq.read_table(file), encoding) for file in files])
    return Predictor(_train(rows, folder).model, encoding=encoding, threads=cores(), device=words.device), matrix


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
    """The training's process is killed once there is a checkpoint; the same call goes on from it."""
    from tasks.compute.checkpoints import Checkpoints
    from tasks.lake.objects import FolderStore

    kept = Checkpoints(FolderStore(folder / "store"), "training", every=max(1, words.rounds // 5))

    def kill() -> None:
        while kept.latest() is None:
            time.sleep(0.005)
        for pid in family(os.getpid())[1:]:
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    began = time.monotonic()
    trained = _train(words, folder, checkpoints=kept, attempts=3)
    assert trained.resumed_from, "it was over before it was killed: more rounds are needed"
    answer(seconds=time.monotonic() - began, resumed=trained.resumed_from)


_SIDES = {"checks": _checks, "ours": _ours, "plain": _plain, "cluster": _cluster, "score": _score, "shap": _shap,
          "resume": _resume}  # fmt: skip


def _size(rows: int) -> int:
    return min(rows, FILE_ROWS)


def _device_name(gpu: str | None) -> str:
    if gpu is None:
        return "no GPU was used"
    import pynvml

    pynvml.nvmlInit()
    name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByUUID(gpu))
    return f"{name} ({gpu}), driver {pynvml.nvmlSystemGetDriverVersion()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__).splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000_000, 100_000_000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "millrace-flights")
    parser.add_argument("--quick", action="store_true", help="wait for no idle machine: to see that it works")
    parser.add_argument("--side", choices=_SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side is None:
        from benchmarks.measure import hurry
        from benchmarks.report import machine, show

        if words.quick:
            hurry()
        part = measure(
            words.folder, device=words.device, rows=tuple(words.rows), boosts=words.rounds, times=words.times
        )
        print(f"{machine()['machine']}; {machine()['versions']}; commit {machine()['commit']}\n")
        show(part)
        return
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    words.rows = words.rows[0]
    words.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        _SIDES[words.side](words, Path(folder))


if __name__ == "__main__":
    main()
