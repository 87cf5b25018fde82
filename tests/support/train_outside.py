"""A step at an outside scheduler: `python -P -m tests.support.train_outside FOLDER ADDRESS WORKERS ATTEMPTS`.

Waits for the workers, trains in FOLDER, whose `store` holds the checkpoints, and prints one line: what came of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from tasks.compute.checkpoints import Checkpoints
from tasks.compute.cluster import open_cluster
from tasks.compute.encoding import encode
from tasks.compute.metrics import metric
from tasks.compute.predict import predict
from tasks.compute.rows import fit_encoding_files, survey
from tasks.compute.spread import Spread
from tasks.compute.train import Recipe, train
from tasks.errors import ClusterError
from tasks.lake.objects import FolderStore
from tests.support.cluster_checks import FEATURES, binary, rows, write

ROUNDS, EVERY = 500, 10
STALL = 5.0  # seconds: also how long a heartbeat may be missing


def main(folder: Path, address: str, *, workers: int, attempts: int) -> None:
    with Client(address, timeout="60s", set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=90)
    data = write(folder / "train", [rows(500, seed) for seed in range(4)], binary)
    encoding = fit_encoding_files(data, FEATURES)
    places: list[int] = []
    said: list[str] = []

    @contextmanager
    def open_place() -> Iterator[Spread]:
        given = {"workers": 1, "threads": 1, "memory_limit": "auto", "gpus": 0, "workdir": folder / "dask"}
        with open_cluster(scheduler=address, stall=STALL, **given) as place:
            places.append(place.workers)
            yield place

    try:
        trained = train(
            open_place,
            data,
            seen=survey(data, encoding.columns),
            encoding=encoding,
            recipe=Recipe("binary:logistic", {"max_depth": 4, "eta": 0.02, "subsample": 0.8}, ROUNDS, seed=5),
            checkpoints=Checkpoints(FolderStore(folder / "store"), "t", every=EVERY),
            attempts=attempts,
            say=said.append,
        )
    except ClusterError as error:
        print(json.dumps({"error": str(error), "places": places, "said": said}))
        return
    new = rows(800, 60)
    scores = predict(trained.model, encode(new, encoding), encoding=encoding, threads=1)
    result = {"rounds": trained.rounds, "resumed_from": trained.resumed_from, "auc": metric("auc", binary(new), scores)}
    print(json.dumps(result | {"places": places, "said": said}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], workers=int(sys.argv[3]), attempts=int(sys.argv[4]))
