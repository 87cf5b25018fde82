"""One of several workers fails in mid-training: its own error is told, not the echo of it in the others, and the training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tasks.compute.chunks import Chunk, Desk, do_chunks
from tasks.compute.cluster import open_cluster
from tasks.compute.rows import fit_encoding_files, survey
from tasks.compute.spread import Spread
from tasks.compute.train import Recipe, train
from tasks.compute.turn import alone, start_tracker
from tasks.errors import ClusterError, MemoryShortError
from tests.support.cluster_checks import FEATURES, binary, rows, write


def _fail_in_round_seven(error: BaseException) -> None:
    """On a worker: XGBoost's booster raises; the places after this one have workers of their own."""
    import xgboost

    update = xgboost.Booster.update

    def broken(self, *arguments, **more):
        if more.get("iteration") == 7:
            raise error
        return update(self, *arguments, **more)

    xgboost.Booster.update = broken


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (MemoryError("std::bad_alloc"), MemoryShortError, "the machine or its GPU failed: std::bad_alloc"),
        (
            OSError(28, "No space left on device"),
            ClusterError,
            "a process that trains failed: [Errno 28] No space left",
        ),
    ],
    ids=["memory", "disk"],
)
def test_the_failure_of_a_worker_is_told_as_its_own_and_the_training_goes_on(
    victim: int, error: BaseException, kind: type, told: str, tmp_path: Path
):
    data = write(tmp_path / "train", [rows(400, seed) for seed in range(4)], binary)
    lost: list[ClusterError] = []
    place = partial(_place, tmp_path / "dask", victim, partial(_fail_in_round_seven, error), lost)
    trained = train(
        place,
        data,
        seen=survey(data, FEATURES),
        encoding=fit_encoding_files(data, FEATURES),
        recipe=Recipe("binary:logistic", {}, 20, seed=1),
        attempts=3,
        lost=lost.append,
    )
    assert trained.rounds == 20
    (one,) = lost
    assert type(one) is kind and one.message.startswith(told)


@contextmanager
def _place(folder: Path, victim: int, fail: Callable[[], None], lost: list[ClusterError]) -> Iterator[Spread]:
    with open_cluster(scheduler=None, workers=2, threads=2, memory_limit="2GiB", gpus=(), workdir=folder) as running:
        if not lost:
            workers = sorted(running.client.scheduler_info()["workers"])
            running.client.run(fail, workers=[workers[victim]])
        yield running


def test_the_tracker_listens_where_the_scheduler_is_whatever_address_the_client_knows(tmp_path: Path):
    """As behind a published port: 192.0.2.7 is nobody's."""
    with open_cluster(scheduler=None, workers=1, threads=1, memory_limit="2GiB", gpus=(), workdir=tmp_path) as running:
        client = running.client
        with alone(client, "mine", gone=lambda: False):
            found = start_tracker(client, "mine", workers=1, host="192.0.2.7")
            assert found["dmlc_tracker_uri"] == urlsplit(client.scheduler.address).hostname
        with alone(client, "mine", gone=lambda: False):
            mine = client.run_on_scheduler(_move, address="tcp://192.0.2.8:8786")
            with pytest.raises(ClusterError, match=r"can't listen on .*: 192\.0\.2\.8: .*bind.*; 192\.0\.2\.7: "):
                start_tracker(client, "mine", workers=1, host="192.0.2.7")
            client.run_on_scheduler(_move, address=mine)


def _move(dask_scheduler, address: str) -> str:
    before, dask_scheduler._address = dask_scheduler._address, address
    return before


def test_the_wait_for_another_run_is_told_and_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = write(tmp_path / "train", [rows(400, seed) for seed in range(2)], binary)
    with open_cluster(scheduler=None, workers=1, threads=1, memory_limit="2GiB", gpus=(), workdir=tmp_path) as running:
        client, held = running.client, threading.Event()

        def other() -> None:
            with alone(client, "another"):
                held.set()
                time.sleep(3)

        thread = threading.Thread(target=other)
        thread.start()
        assert held.wait(30)
        with caplog.at_level("INFO"):
            trained = train(
                lambda: nullcontext(running),
                data,
                seen=survey(data, FEATURES),
                encoding=fit_encoding_files(data, FEATURES),
                recipe=Recipe("binary:logistic", {}, 2, seed=1),
            )
        thread.join()
    assert "waits for another run on the Dask workers" in caplog.text
    assert running.waited > 2 and trained.cpu_seconds <= trained.seconds - 2


def test_a_worker_that_is_stuck_while_its_heart_beats_is_started_anew_and_its_chunk_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tasks.compute.chunks._LONGEST", 3.0)
    once = tmp_path / "once"
    works = [partial(_stuck_once, once), partial(_double, 2)]
    with open_cluster(
        scheduler=None, workers=2, threads=2, memory_limit="2GiB", gpus=(), workdir=tmp_path / "dask"
    ) as running:
        found = do_chunks(running, [Chunk(f"chunk-{number}", work) for number, work in enumerate(works)])
    assert [one.value for one in found] == ["gone on", 4] and not any(one.error for one in found)


def _stuck_once(once: Path, desk: Desk) -> str:
    if once.exists():
        return "gone on"
    once.touch()
    time.sleep(600)
    return "waited to the end"


def _double(number: int, desk: Desk) -> int:
    return 2 * number


def test_a_cluster_that_does_not_close_in_time_takes_no_result_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def late(self, *error: object) -> None:
        raise TimeoutError

    with open_cluster(scheduler=None, workers=1, threads=1, memory_limit="2GiB", gpus=(), workdir=tmp_path) as running:
        cluster = running.client.cluster
        monkeypatch.setattr(type(cluster), "__exit__", late)
    assert "did not close in time" in caplog.text
    monkeypatch.undo()
    cluster.close()
