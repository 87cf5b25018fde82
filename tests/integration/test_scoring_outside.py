"""Ranges scored on two workers of an outside scheduler: the same tables, also when a worker or the client is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.command.outside import cut_parts
from tasks.command.part import LakeAt, Part, score_part
from tasks.compute.chunks import Desk, check_workers
from tasks.compute.cluster import open_cluster
from tasks.domain.partition import span
from tasks.domain.run import RunRef
from tasks.errors import NoPlaceError, PopulationError, SqlError
from tasks.featurize import featurize
from tasks.pin import read_state
from tasks.settings import REPOSITORY, load_pipeline
from tasks.sql.session import sql_memory
from tasks.view import publish_view
from tests.support.dask_processes import DaskProcesses, dask_processes
from tests.support.pipelines import deliver
from tests.support.project import Project, ended, make_project, with_settings
from tests.support.s3 import CREDENTIALS

RANGE, DAYS = "2024-02-03..2024-02-14", 12
PREDICTIONS = "late_orders/predictions"
COMMIT = "tasks.lake.delta:Snapshot.commit"


@pytest.fixture(scope="module")
def loaded(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With two weeks of February clean, none of them scored."""
    made = first_champion.copy(tmp_path_factory.mktemp("ranges") / "project")
    deliver(made.incoming, date(2024, 2, 1), date(2024, 2, 14))
    made.load({"orders": "2024-02-01..2024-02-14", "arrivals": "2024-02-01..2024-02-13"})
    return made


@pytest.fixture(scope="module")
def alone(loaded: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same, scored in one process."""
    made = loaded.copy(tmp_path_factory.mktemp("alone") / "project")
    made.run("score", "late_orders", RANGE)
    return made


@pytest.fixture
def february(loaded: Project, tmp_path: Path) -> Project:
    return loaded.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with dask_processes(tmp_path_factory.mktemp("dask"), workers=2, restart=True, environment=CREDENTIALS) as processes:
        yield processes


def tables(project: Project) -> dict[str, Any]:
    """All rows and entries of what scoring wrote, without the names of runs and the versions that differ."""
    view = project.entry(PREDICTIONS, "2024-02-03").meta["view"]
    features = f"late_orders/features/{view}"
    found = {}
    for name in (features, PREDICTIONS):
        entries = project.table(name).entries()
        found[name] = (
            project.table(name).read(version=project.version(name)).sort_by("order_id").to_pylist(),
            {key: (one.rows, _without(one.meta, features)) for key, one in entries.items()},
        )
    return found


def _without(meta: dict[str, Any], features: str) -> dict[str, Any]:
    return meta | {"inputs": {name: version for name, version in meta["inputs"].items() if name != features}}


def commits(project: Project, name: str) -> Counter[str]:
    """How many commits replaced each partition."""
    return Counter(key for one in project.table(name).commits() for key in one.touched)


def check_each_published_once(project: Project, alone: Project) -> None:
    assert tables(project) == tables(alone)
    view = project.entry(PREDICTIONS, "2024-02-03").meta["view"]
    for name in (PREDICTIONS, f"late_orders/features/{view}"):
        replaced = {key: count for key, count in commits(project, name).items() if key >= "partition_key=2024-02"}
        assert set(replaced.values()) == {1} and len(replaced) == DAYS, (name, replaced)


def score(project: Project, workers: DaskProcesses, **environment: str):
    return project.start(
        "run", "score", "late_orders", RANGE, "--json", MILLRACE_DASK_SCHEDULER=workers.address, **environment
    )


def _arm(target: str, moment: str, number: int) -> None:
    from tests.support.killed_step import arm

    arm(target, moment, number)


def test_a_range_on_two_workers_leaves_the_tables_that_one_process_leaves(
    loaded: Project, alone: Project, workers: DaskProcesses, tmp_path: Path, new_bucket: Callable, s3_endpoint: str
):
    """From a lake on S3, which workers reach with their own credentials."""
    spread = make_project(tmp_path, bucket=new_bucket(), endpoint=s3_endpoint)
    shutil.copytree(loaded.settings.config, spread.settings.config)
    for one in loaded.lake.objects.list(""):
        spread.lake.objects.put(one.key, loaded.lake.objects.get(one.key))
    scored = ended(score(spread, workers))
    assert scored.code == 0, scored.err
    assert "12 partitions in 4 chunks on 2 Dask workers" in scored.err
    check_each_published_once(spread, alone)
    expected = alone.run("score", "late_orders", RANGE, force=True)
    outcomes = scored.json["partitions"]
    assert outcomes == [one.to_dict() for one in expected.partitions]
    assert scored.json["version"] == spread.version(PREDICTIONS)
    assert len(spread.table(PREDICTIONS).commits()) == 1 + 4  # the table, and one for each chunk
    workers.check_idle()


def test_features_on_two_workers_lie_in_one_version(february: Project, alone: Project, workers: DaskProcesses):
    outside = with_settings(february, dask_scheduler=workers.address)
    pin = february.run("pin", "late_orders", RANGE)
    features = outside.run("featurize", "late_orders", RANGE, given={"pin": pin})
    ((name, version),) = features.versions.items()
    assert version == february.version(name) and features.computed == DAYS
    scored = outside.run("score", "late_orders", RANGE, given={"pin": pin, "featurize": features})
    assert {one.status for one in scored.partitions} == {"published"} and len(scored.partitions) == DAYS
    inputs = [entry.meta["inputs"][name] for (key,), entry in february.table(PREDICTIONS).entries().items()]
    assert inputs == [version] * DAYS
    check_each_published_once(february, alone)


def test_a_killed_workers_chunk_is_done_again_and_published_once(
    february: Project, alone: Project, workers: DaskProcesses
):
    """Killed behind the commit of its predictions, the second of its two, and before it could say so."""
    with workers.client() as client:
        client.wait_for_workers(2, timeout=90)
        victim = sorted(client.scheduler_info(n_workers=-1)["workers"])[0]
        client.run(_arm, COMMIT, "after", 2, workers=[victim])
    scored = ended(score(february, workers))
    assert scored.code == 0, scored.err
    assert f"worker {victim} was lost: score-late_orders-2024-02-" in scored.err
    assert [one["status"] for one in scored.json["partitions"]] == ["published"] * DAYS
    check_each_published_once(february, alone)
    workers.check_idle()


def _arm_pause() -> int:
    """Have this process stand still at its second commit; its id."""
    from tasks.lake.delta import Snapshot

    original, calls = Snapshot.commit, 0

    def commit(self: Snapshot, **arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        original(self, **arguments)

    Snapshot.commit = commit
    return os.getpid()


def test_a_worker_that_falls_silent_is_replaced_and_publishes_nothing_when_it_wakes_up(
    february: Project, alone: Project, workers: DaskProcesses
):
    with workers.client() as client:
        client.wait_for_workers(2, timeout=90)
        victim = sorted(client.scheduler_info(n_workers=-1)["workers"])[0]
        (process,) = client.run(_arm_pause, workers=[victim]).values()
    try:
        scored = ended(score(february, workers, MILLRACE_TRAIN_STALL="5"))
        assert scored.code == 0, scored.err
        assert f"worker {victim} was lost: score-late_orders-2024-02-" in scored.err
        assert psutil.Process(process).status() == psutil.STATUS_STOPPED
        check_each_published_once(february, alone)
        before = february.version(PREDICTIONS)
    finally:
        os.kill(process, signal.SIGCONT)
    workers.check_idle()
    check_each_published_once(february, alone)
    assert february.version(PREDICTIONS) == before


def _wait_for_work(process: subprocess.Popen, workers: DaskProcesses) -> None:
    with workers.client() as client:
        until = time.monotonic() + 120
        while not any(client.processing().values()):
            assert time.monotonic() < until and process.poll() is None, process.communicate()
            time.sleep(0.01)


def test_a_range_is_finished_at_a_scheduler_that_is_started_anew(
    february: Project, alone: Project, workers: DaskProcesses
):
    process = score(february, workers)
    _wait_for_work(process, workers)
    workers.kill_scheduler()
    scored = ended(process)
    assert scored.code == 0, scored.err
    assert "; tried again" in scored.err
    assert [one["status"] for one in scored.json["partitions"]] == ["published"] * DAYS
    check_each_published_once(february, alone)
    workers.check_idle()


def test_a_killed_client_leaves_no_task_and_what_it_began_is_published_once(
    february: Project, alone: Project, workers: DaskProcesses
):
    process = score(february, workers)
    _wait_for_work(process, workers)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    workers.check_idle()
    again = ended(score(february, workers))
    assert again.code == 0, again.err
    check_each_published_once(february, alone)


def test_a_refused_chunk_fails_the_call_and_leaves_what_the_others_published(february: Project, workers: DaskProcesses):
    pin = february.run("pin", "late_orders", RANGE)
    features = february.run("featurize", "late_orders", RANGE, given={"pin": pin})
    wrong = [replace(one, rows=one.rows - 1) if one.key == "2024-02-07" else one for one in features.partitions]
    given = {"pin": pin, "featurize": replace(features, partitions=tuple(wrong))}
    with pytest.raises(PopulationError) as caught:
        with_settings(february, dask_scheduler=workers.address).run("score", "late_orders", RANGE, given=given)
    assert caught.value.message.startswith("late_orders 2024-02-07: 40 rows of orders came in")
    assert "1 of 4 chunks failed; the 9 partitions of the others were published and stay" in caught.value.message
    published = {key for (key,) in february.table(PREDICTIONS).entries()}
    assert len(published) == 9 and not published & {"2024-02-06", "2024-02-07", "2024-02-08"}
    workers.check_idle()


def test_a_chunk_that_is_done_again_finds_its_own_commit_although_others_came_after_it(february: Project):
    """A worker died behind its commit, and other chunks have written to the same tables since."""
    spec = load_pipeline(february.settings.config, "late_orders")
    pin = february.run("pin", "late_orders", RANGE)
    desk = Desk(february.settings.home, threads=1, memory=None)

    def part(first: int, last: int) -> Part:
        days = tuple(span("day", spec.timezone, RANGE)[first:last])
        views = {pin.partitions[0].model.view: [one.key for one in days]}
        ours = replace(pin, partitions=pin.partitions[first:last])
        settings = february.settings
        return Part(spec, days, views, pin.snapshots, LakeAt.of(settings), RunRef("the-run"), 1_000, ours, batch_rows=7)

    first = score_part(part(0, 3), desk)
    score_part(part(3, 6), desk)
    before = february.objects()
    again = score_part(part(0, 3), desk)
    assert again.partitions == first.partitions
    assert {one.status for one in again.partitions} == {"published"}
    assert set(february.objects()) == set(before)  # no version, no data file


def test_a_range_is_cut_into_parts_that_together_are_the_range_and_fit_the_workers_memory(february: Project):
    spec = load_pipeline(february.settings.config, "late_orders")
    pin = february.run("pin", "late_orders", RANGE)
    days = tuple(span("day", spec.timezone, RANGE))
    where = LakeAt.of(february.settings)
    # as where the champion's view changes on the ninth
    views = {"old": [one.key for one in days[:6]], "new": [one.key for one in days[6:]]}
    whole = Part(spec, days, views, pin.snapshots, where, RunRef("the-run"), 1_000, pin)

    def lengths(memory: int | None) -> list[int]:
        parts = cut_parts(whole, february.lake, workers=2, memory=memory)
        assert [one for part in parts for one in part.partitions] == list(days)
        assert [one for part in parts for one in part.pin.partitions] == list(pin.partitions)
        for part in parts:
            keys = [one.key for one in part.partitions]
            assert [one.key for one in part.pin.partitions] == keys
            assert sorted(key for named in part.views.values() for key in named) == keys
            assert all(set(named) <= set(views[view]) for view, named in part.views.items())
        return [len(part.partitions) for part in parts]

    assert lengths(None) == lengths(2**30) == [3, 3, 3, 3]
    assert lengths(1) == [1] * DAYS


def test_features_are_held_to_the_memory_of_who_computes_them(february: Project):
    spec = load_pipeline(february.settings.config, "late_orders")
    sql = (
        "select order_id, (select count(distinct a.order_id || b.order_id) from orders a, orders b) as n from entities"
    )
    view = publish_view(spec=spec, sql=sql, rollups={}, file="features.sql", lake=february.lake)
    day = spec.partition("2024-02-05")
    given = {
        "spec": spec,
        "partitions": [day],
        "views": {view: [day.key]},
        "snapshots": read_state(spec, february.lake).snapshots,
        "lake": february.lake,
        "run": RunRef("memory"),
        "threads": 1,
        "rows_at_a_time": 1_000,
    }
    with pytest.raises(SqlError, match="fewer threads"):
        featurize(**given, memory_limit="1MiB")
    assert featurize(**given, memory_limit=sql_memory(2**30, 2)).computed == 1
    assert (sql_memory(2**30, 2), sql_memory(2**33, 4), sql_memory(None, 2)) == ("256MiB", "1024MiB", None)


def test_workers_of_another_millrace_or_of_another_lake_are_refused(
    february: Project, tmp_path: Path, workers: DaskProcesses
):
    nowhere = LakeAt(str(tmp_path / "elsewhere"), None, "us-east-1", 60, 7)
    with open_cluster(
        scheduler=workers.address, workers=1, threads=1, memory_limit="auto", gpus=0, workdir=tmp_path
    ) as place, pytest.raises(NoPlaceError, match="does not see the lake"):  # fmt: skip
        check_workers(place, sees=partial(nowhere.holds, "late_orders/views/v.json"), what="the lake")
    other, none = tmp_path / "other", tmp_path / "none"
    for name in ("tasks", "tests/support"):
        shutil.copytree(REPOSITORY / name, other / name)
    (other / "tasks" / "score.py").write_text((other / "tasks" / "score.py").read_text() + "\n# another release\n")
    (none / "tasks").mkdir(parents=True)
    (none / "tasks" / "__init__.py").touch()
    for path, words in ((other, "runs another Millrace than this process"), (none, "has no Millrace")):
        (path / "dask").mkdir()
        with dask_processes(path / "dask", workers=1, environment={"PYTHONPATH": str(path)}) as processes:
            refused = ended(score(february, processes))
        error = json.loads(refused.out)["error"]
        assert refused.code != 0 and error["type"] == "NoPlaceError" and words in error["message"], refused.err
    assert february.version(PREDICTIONS) == -1
