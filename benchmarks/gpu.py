"""The suite for a machine with a GPU: `python -m benchmarks.gpu` from a copy of the repository.

Where that machine has no package index: one command elsewhere, with a Python of the same version (3.11 to 3.13) and
on the same kind of processor and system as the machine's, since wheels are made for one:
`python3.12 -m pip wheel -w wheels -r benchmarks/gpu-requirements.txt`. Carry the wheels with the repository; there are
three more: `python3.12 -m venv env`,
`env/bin/pip install --no-index --find-links wheels -r benchmarks/gpu-requirements.txt` and
`env/bin/python -m benchmarks.gpu`. Airflow, MLflow, Great Expectations, DuckDB and Delta are not needed.

It prints a table: the behaviour suite of every place of training on one GPU, on a Dask-CUDA cluster and on `dask cuda worker` processes of
an outside scheduler; training
of each `--rows` against plain XGBoost on the same GPU, from memory and, up to ten million rows, from the same files, and
from external memory; the cluster's start-up; scoring against the device's own upload and against the processors; SHAP
values; a training that is killed and goes on, in one process and on both clusters; two trainings at once, one of which
waits. Each side is a process of its own. All but the clusters' run on one GPU, the first that no training holds, and
its memory is what the table tells, also what is still in use when all have ended.
A side that fails is named, the others go on, and the exit status is 1. `--parts` takes some of them.
`--device cpu` runs the same code on the processors, which is how it is tested where there is no GPU.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.flights import FEATURES, flights
from benchmarks.gpu_sides import CLUSTER, OUTSIDE, SIDES, size_of_file
from benchmarks.measure import Figure, Part, Ran, cores, of, ratios, rounds, run

PLACES = ("one process", CLUSTER, OUTSIDE)
_COMPARED = 10_000_000
"""Rows up to which a training is compared with pandas' way and with external memory, too."""


class Suite:
    """Figures, sides and sentences of one device, part by part.

    Args:
        folder: where the flights are kept.
        device: cuda or cpu.
        rows: of the trainings; all but the trainings take the fewest.
        boosts: rounds of boosting.
        times: how often each side runs.
    """

    def __init__(self, folder: Path, *, device: str, rows: tuple[int, ...], boosts: int, times: int) -> None:
        self.folder, self.device, self.rows, self.boosts, self.times = folder, device, rows, boosts, times
        self.least = min(rows)
        self.figures: list[Figure] = []
        self.sides: dict[str, dict] = {}
        self.said: list[str] = []
        self.failed: list[str] = []
        self.gpu = free_gpu() if device == "cuda" else None
        self.parts = {"checks": self.checks, "train": self.train, "start": self.start, "score": self.score,
                      "shap": self.shap, "resume": self.resume, "both": self.both}  # fmt: skip

    def measure(self, parts: tuple[str, ...] = ()) -> Part:
        """Those parts, or all: one that fails is told and leaves the others as they are."""
        idle = self._in_use()
        for name in parts or self.parts:
            try:
                self.parts[name]()
            except SystemExit as error:
                self.failed.append(name)
                self.said.append(f"part {name} **failed**: {error}")
        if self.gpu:
            self.said.append(
                f"GPU memory in use: {idle:.0f} MB before the first side, {self._in_use():.0f} MB after the last"
            )
        self.said.append(f"{cores()} processors; {_device_name(self.gpu)}")
        return Part(tuple(self.figures), self.sides, tuple(self.said))

    def checks(self) -> None:
        failed = []
        for where in PLACES:
            found = self._side("checks", self.least, "--place", where).result
            self.said.append(
                f"{found['passed']} checks of tests/support/cluster_checks.py passed on {where} ({self.device})"
            )
            failed += [f"{check} on {where}" for check in found["failed"]]
        if failed:
            raise SystemExit(", ".join(failed))

    def train(self) -> None:
        for count in self.rows:
            flights(self.folder, count, size=size_of_file(count))
            names = ("ours", "plain", "files", "external") if count <= _COMPARED else ("ours", "plain")
            found = rounds(self.times, names, lambda name, count=count: self._side(name, count))
            seconds = {name: of(runs, "seconds") for name, runs in found.items()}
            size = f"{count:,} rows x {self.boosts} rounds, {len(FEATURES)} features, {self.device}"
            for name, against, target, most in (
                ("plain", "plain `xgb.train` on the same device, from the host's memory", "≤ 1.10 ×", 1.10),
                ("files", "plain `xgb.train` on the same device, from the same files", "", None),
                ("external", "the same from external memory", "", None),
            ):
                if name in found:
                    values = ratios(seconds["ours"], seconds[name])
                    self.figures.append(
                        Figure(f"training, wall clock ({size})", against, target, values, " ×", most=most)
                    )
            for name, runs in found.items():
                self.sides[f"train {count:,}: {name}"] = {
                    "s": seconds[name],
                    "M rows x rounds / s": [count * self.boosts / one / 1e6 for one in seconds[name]],
                    "GB of host at most": [one.peak / 1e9 for one in runs],
                    "GB of GPU at most": of(runs, "gpu"),
                }

    def start(self) -> None:
        self.sides["a Dask cluster starts"] = {"s": of(self._sides("cluster"), "seconds")}

    def score(self) -> None:
        runs = self._sides("score")
        uploads = [one / (len(FEATURES) * 4) for one in of(runs, "upload")]
        what = f"scoring, rows per second ({self.device}, {self.boosts} trees)"
        for against, rates in (("the device's own upload of those rows", uploads), ("the processors", of(runs, "cpu"))):
            self.figures.append(Figure(what, against, "", ratios(of(runs, "rate"), rates), " ×"))
        self.sides["score"] = {"M rows / s": _millions(of(runs, "rate")), "GB of GPU at most": of(runs, "gpu")}
        self.sides["score on the processors"] = {"M rows / s": _millions(of(runs, "cpu"))}
        self.sides["upload of such rows"] = {"M rows / s": _millions(uploads)}

    def shap(self) -> None:
        self.sides["SHAP values"] = {"M rows / s": _millions(of(self._sides("shap"), "rate"))}

    def resume(self) -> None:
        for where in PLACES:
            runs = self._sides("resume", "--place", where)
            self.sides[f"killed and gone on, {where}"] = {
                "s": of(runs, "seconds"),
                "resumed from round": of(runs, "resumed"),
            }

    def both(self) -> None:
        if self.gpu:
            waited = self._side("both", self.least).result["waited"]
            self.said.append(
                f"of two trainings at once on one GPU the second waited {waited:.1f} s for the first one's end"
            )

    def _sides(self, name: str, *more: object) -> list[Ran]:
        return [self._side(name, self.least, *more) for _ in range(self.times)]

    def _side(self, name: str, count: int, *more: object) -> Ran:
        whole = name == "cluster" or {CLUSTER, OUTSIDE} & set(more)
        words = ("--device", self.device, "--rounds", self.boosts, "--folder", self.folder, *more)
        with GpuMemory(self.gpu) as memory:
            ran = run(
                "benchmarks.gpu", "--side", name, "--rows", count, *words, again=0,
                environment={"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu and not whole else None,
            )  # fmt: skip
        return Ran({**ran.result, "gpu": memory.peak / 1e9}, ran.peak, ran.private, ran.others)

    def _in_use(self) -> float:
        """MB of the GPU's memory."""
        with GpuMemory(self.gpu) as memory:
            pass
        return memory.peak / 1e6


def _millions(values) -> list[float]:
    return [one / 1e6 for one in values]


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


def _device_name(gpu: str | None) -> str:
    if gpu is None:
        return "no GPU was used"
    import pynvml

    pynvml.nvmlInit()
    name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByUUID(gpu))
    return f"{name} ({gpu}), driver {pynvml.nvmlSystemGetDriverVersion()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__).splitlines()[0])
    parser.add_argument(
        "--parts", nargs="+", default=(), metavar="PART", help="checks train start score shap resume both"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000_000, 100_000_000])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "millrace-flights")
    parser.add_argument("--quick", action="store_true", help="wait for no idle machine: to see that it works")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/measured/gpu.json too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side is None:
        from benchmarks.measure import hurry
        from benchmarks.report import GPU, keep, machine, show

        if words.quick:
            hurry()
        suite = Suite(words.folder, device=words.device, rows=tuple(words.rows), boosts=words.rounds, times=words.times)
        began = time.monotonic()
        part = suite.measure(tuple(words.parts))
        if words.keep:
            keep(GPU, part, seconds=time.monotonic() - began)
        print(f"{machine()['machine']}; {machine()['versions']}; commit {machine()['commit']}\n")
        show(part)
        sys.exit(1 if suite.failed else 0)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    words.rows = words.rows[0]
    words.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        SIDES[words.side](words, Path(folder))


if __name__ == "__main__":
    main()
