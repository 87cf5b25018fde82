"""A training task against plain XGBoost: `python -m benchmarks.training [--rows N] [--rounds N] [--pairs N]`.

Four sides train the same rows with the same parameters and threads, each in a process of its own whose
imports are done before its clock starts:

- ours: from Parquet files to a model, by what `tasks.train` calls: the text columns' categories and the
  footers are read, the size estimated, a place opened; its process starts, imports, reads, encodes, quantises
  and trains, follows logloss, writes a checkpoint every tenth round, and hands the model back;
- external: the same with its data in external memory, as where it does not fit;
- memory: `xgboost.QuantileDMatrix` and `xgboost.train` on a float32 matrix, encoded already and in memory;
- files: the same, read first from those files with pyarrow and pandas, texts as pandas' categories.

Each model is then scored on rows that follow the training's, outside of the clock. Memory is that of the
training process, less what it is after the same imports, against what XGBoost's quantised matrix takes: the
growth of side `memory`'s process while it makes the matrix.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.flights import FEATURES, FILE_ROWS, TEXTS, flights
from benchmarks.measure import Figure, Part, Ran, answer, cores, memory, of, ratios, rounds, run

PARAMS = {"max_depth": 6, "eta": 0.1, "max_bin": 256}
SIDES = ("ours", "external", "memory", "files")
_HOLDOUT = 200_000


def measure(folder: Path, *, rows: int = 10_000_000, boosts: int = 20, pairs: int = 3) -> Part:
    """Run the pairs and compare."""
    _files(folder, rows)
    words = ("--folder", folder, "--rows", rows, "--rounds", boosts)
    found = rounds(pairs, SIDES, lambda side: run("benchmarks.training", "--side", side, *words))
    imports = run("benchmarks.training", "--side", "imports", *words).result
    ours, external, plain, files = (found[side] for side in SIDES)

    def above(runs: list[Ran], kind: str) -> tuple[float, ...]:
        """The peaks of runs above the process's after imports, as a share of the quantised matrix."""
        key = "resident" if kind == "peak" else "private"
        return tuple(
            (getattr(one, kind) - imports[key]) / other.result["matrix"] for one, other in zip(runs, plain, strict=True)
        )

    away = tuple(
        abs(one - other)
        for side in (plain, files, external)
        for one, other in zip(of(ours, "auc"), of(side, "auc"), strict=True)
    )
    size = f"{rows:,} rows x {boosts} rounds, {len(FEATURES)} features"
    figures = (
        Figure(
            f"training task, wall clock ({size})",
            "plain `xgb.train` on the same data from memory",
            "≤ 1.10 ×",
            ratios(of(ours, "seconds"), of(plain, "seconds")),
            " ×",
            most=1.10,
        ),
        Figure("the same, seconds of processors", "the same", "", ratios(of(ours, "cpu"), of(plain, "cpu")), " ×"),
        Figure(
            "training task, wall clock",
            "plain `xgb.train`, from the same files",
            "",
            ratios(of(ours, "seconds"), of(files, "seconds")),
            " ×",
        ),
        Figure("its AUC", "of both plain models and of external memory", "within 0.001", away, "", most=0.001),
        Figure(
            "peak memory of training above the process's after imports",
            "the size of the quantised matrix",
            "≤ 2.5 ×",
            above(ours, "peak"),
            " ×",
            most=2.5,
        ),
        Figure(
            "the same without mapped files, which the system can drop", "the same", "", above(ours, "private"), " ×"
        ),
        Figure("peak memory with the data in external memory", "the same", "", above(external, "peak"), " ×"),
        Figure("the same without mapped files", "the same", "", above(external, "private"), " ×"),
        Figure(
            "training with the data in external memory, wall clock",
            "the same task in memory",
            "",
            ratios(of(external, "seconds"), of(ours, "seconds")),
            " ×",
        ),
    )
    sides = {
        side: {"s": of(runs, "seconds"), "s of CPU": of(runs, "cpu"), "GB at most": [one.peak / 1e9 for one in runs]}
        for side, runs in found.items()
    }
    for side in ("ours", "external"):
        sides[side]["share of others"] = [one.others for one in found[side]]
    said = (
        f"{size}; {cores()} threads; AUC {of(ours, 'auc')[0]:.4f} (ours), {of(plain, 'auc')[0]:.4f} (memory), {of(files, 'auc')[0]:.4f} (files)",
        f"quantised matrix {of(plain, 'matrix')[0] / 1e9:.2f} GB ({of(plain, 'matrix')[0] / rows / len(FEATURES):.2f} bytes a value), process after imports {imports['resident'] / 1e6:.0f} MB",
    )
    return Part(figures, sides, said)


def ours(files: list[Path], boosts: int, scratch: Path, wish: str = "auto") -> bytes:
    """As `tasks.train` does, from its files on."""
    from tasks.compute.checkpoints import Checkpoints
    from tasks.compute.places import Means, open_place
    from tasks.compute.rows import TrainingData
    from tasks.compute.sizing import Shape
    from tasks.compute.train import Recipe, train
    from tasks.lake.objects import FolderStore

    data = TrainingData(tuple(map(str, files)))
    encoding, seen = seen_of(files)
    shape = Shape(seen.rows, len(FEATURES), PARAMS["max_bin"])
    means = Means(folder=scratch, threads=cores())
    trained = train(
        lambda: open_place(shape, means, wish=wish, gpus=0, say=lambda text: None),
        data,
        seen=seen,
        encoding=encoding,
        recipe=Recipe("binary:logistic", PARAMS, boosts, seed=0),
        checkpoints=Checkpoints(FolderStore(scratch / "lake"), "checkpoints", every=10),
    )
    way = "single" if wish == "auto" else wish
    assert (trained.way, trained.device, trained.rows) == (way, "cpu", seen.rows), trained.reason
    return trained.model


def seen_of(files: list[Path]):
    """(encoding, survey) of files, looked at by threads as the task does when it has joined them."""
    from tasks.compute.looks import look_at, together

    with ThreadPoolExecutor(cores()) as pool:
        return together(list(pool.map(lambda file: look_at(str(file), FEATURES), files)), FEATURES)


def plain(matrix, boosts: int) -> bytes:
    import xgboost

    params = {"objective": "binary:logistic", "tree_method": "hist", "nthread": cores(), **PARAMS}
    return bytes(xgboost.train(params, matrix, boosts).save_raw("ubj"))


def encoded(files: list[Path], fitted: list[Path], rows: int | None = None):
    """(float32 matrix, labels, feature types) of files, in the project's own encoding of the files `fitted`."""
    from tasks.compute.encoding import encode

    encoding, _ = seen_of(fitted)
    starts = np.cumsum([0, *(pq.read_metadata(file).num_rows for file in files)])
    count = int(starts[-1]) if rows is None else min(rows, int(starts[-1]))
    matrix, label = np.empty((count, len(FEATURES)), np.float32), np.empty(count, np.float32)

    def fill(file: Path, start: int) -> None:
        table = pq.read_table(file).slice(0, max(0, count - start))
        encode(table, encoding, out=matrix[start : start + len(table)])
        label[start : start + len(table)] = table["label"].to_numpy()

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, files, map(int, starts)))
    return matrix, label, list(encoding.kinds)


def _side(side: str, files: list[Path], holdout: Path, boosts: int) -> None:
    import xgboost

    from tasks.compute import boosting, places, train  # noqa: F401  before the clock
    from tasks.compute.metrics import metric

    if side == "imports":
        answer(resident=memory()["VmRSS"], private=memory()["RssAnon"])
        return
    grown = 0
    parts = encoded(files, files) if side == "memory" else None
    gc.collect()
    cpu, began, before = os.times(), time.monotonic(), memory().get("VmRSS", 0)
    if side in ("ours", "external"):
        with tempfile.TemporaryDirectory(dir=holdout.parent) as scratch:
            model = ours(files, boosts, Path(scratch), "auto" if side == "ours" else side)
            seconds = time.monotonic() - began
    else:
        if parts is not None:
            features, label, kinds = parts
            matrix = xgboost.QuantileDMatrix(
                features, label, feature_types=kinds, enable_categorical=True, max_bin=PARAMS["max_bin"]
            )
            grown = memory()["VmRSS"] - before
        else:
            frame = frame_of(files)
            matrix = xgboost.QuantileDMatrix(
                frame.drop(columns="label"), frame["label"], enable_categorical=True, max_bin=PARAMS["max_bin"]
            )
        model = plain(matrix, boosts)
        seconds = time.monotonic() - began
    used = sum(os.times()[:4]) - sum(cpu[:4])
    booster = xgboost.Booster(model_file=bytearray(model))
    if side == "files":
        # a category that training did not see is a missing value, as it is with us
        new = frame_of([holdout]).head(_HOLDOUT)
        for name in TEXTS:
            new[name] = new[name].cat.set_categories(frame[name].cat.categories)
        label = new.pop("label")
        scores = booster.predict(xgboost.DMatrix(new, enable_categorical=True))
    else:
        new, label, kinds = encoded([holdout], files, _HOLDOUT)
        scores = booster.inplace_predict(new, validate_features=False)
    auc = metric("auc", np.asarray(label), scores)
    answer(seconds=seconds, cpu=used, auc=auc, matrix=grown)


def _files(folder: Path, rows: int) -> list[Path]:
    """The training's files, and one more."""
    size = min(rows, FILE_ROWS)
    return flights(folder, rows + size, size=size)


def frame_of(files: list[Path]):
    """Files as pandas has them, texts as categories."""
    columns = [*FEATURES, "label"]
    tables = [pq.read_table(file, columns=columns, read_dictionary=list(TEXTS)) for file in files]
    return pa.concat_tables(tables).unify_dictionaries().to_pandas()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path, required=True, help="where the flights are kept")
    parser.add_argument("--side", choices=(*SIDES, "imports"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side is None:
        from benchmarks.report import show

        show(measure(words.folder, rows=words.rows, boosts=words.rounds, pairs=words.pairs))
        return
    *files, holdout = _files(words.folder, words.rows)
    _side(words.side, files, holdout, words.rounds)


if __name__ == "__main__":
    main()
