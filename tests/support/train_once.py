"""A step as the command line runs it: `python -P -m tests.support.train_once FOLDER cluster|single|ADDRESS [hang]`.

Prints one line, the result; with `hang` it trains for ever and is there to be killed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from tasks.compute.cluster import open_cluster
from tasks.compute.rows import TrainingData, fit_encoding_files
from tasks.compute.single import Single
from tasks.compute.train import Recipe, train_at
from tests.support.cluster_checks import FEATURES, binary, rows, write


def main(folder: Path, *, where: str, hang: bool) -> None:
    data: TrainingData = write(folder / "train", [rows(400, seed) for seed in range(4)], binary)
    (folder / "dask").mkdir()
    with ExitStack() as stack:
        if where == "single":
            place = Single("cpu", 2, folder / "dask")
        else:
            given = {"workers": 1, "threads": 2, "memory_limit": "2GiB", "gpus": 0, "workdir": folder / "dask"}
            place = stack.enter_context(open_cluster(scheduler=None if where == "cluster" else where, **given))
        if hang:
            print("it trains", flush=True)
        recipe = Recipe(
            "binary:logistic",
            {"subsample": 0.5, "colsample_bytree": 0.7},
            rounds=10_000_000 if hang else 10,
            seed=3,
        )
        trained = train_at(place, data, encoding=fit_encoding_files(data, FEATURES), recipe=recipe)
    print(json.dumps({"digest": hashlib.sha256(trained.model).hexdigest(), "auc": trained.history["auc"][-1]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), where=sys.argv[2], hang="hang" in sys.argv)
