"""The whole platform, once: started, used, hurt, mended, stopped, removed. The order is the story."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tasks import services
from tasks.errors import ServiceError
from tasks.services import ports, postgres, process
from tasks.services.home import Home, Secrets, read_json
from tasks.settings import load_settings

_DAG = """
import datetime
from airflow.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    end_date=datetime.datetime(2024, 2, 1, tzinfo=datetime.UTC),
)
def probe():
    @task(pool="ingest")
    def first(params=None, dag_run=None):
        print("the first task speaks")
        return (dag_run.conf or {}).get("number", 1)

    @task(pool="score")
    def second(number):
        if number < 0:
            raise ValueError("a number below zero")
        return number + 1

    second(first())

probe()
"""


@pytest.fixture(scope="module")
def settings():
    folder = Path(tempfile.mkdtemp(prefix="millrace test ", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "dags").mkdir()
    (folder / "dags" / "probe.py").write_text(_DAG)
    (folder / "dags" / "broken.py").write_text("from airflow.sdk import DAG\nraise RuntimeError('on purpose')\n")
    settings = load_settings({"MILLRACE_HOME": str(folder / "home"), "MILLRACE_POOLS": "{ingest: 2, score: 3}"})
    yield settings
    services.clean(settings)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def found(settings, told):
    return services.up(settings, lambda done, total, text: told.append((done, total, text)), dags=dags_of(settings))


@pytest.fixture(scope="module")
def api(settings, found):
    return services.AirflowApi(settings)


def dags_of(settings) -> Path:
    return settings.home.parent / "dags"


def pids(settings) -> dict[str, int | None]:
    return {part.name: part.pid for part in services.status(settings)}


def fetch(url: str, body: object = None, method: str = "GET") -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_up_starts_every_part_and_tells_how_far_it_is(settings, found, told):
    assert {part.state for part in services.status(settings)} == {"running"}
    assert len(services.status(settings)) == 6
    assert [done for done, _, _ in told] == list(range(7))
    assert services.addresses(settings) == found
    memory = sum(part.memory for part in services.status(settings))
    assert 5e8 < memory < 2.5e9


def test_a_second_up_returns_at_once_and_changes_nothing(settings, found):
    before, start = pids(settings), time.monotonic()
    assert services.up(settings, dags=dags_of(settings)) == found
    assert time.monotonic() - start < 5
    assert pids(settings) == before


def test_everything_listens_on_the_loopback_interface_only(settings, found):
    records = [process.load(path) for path in (settings.home / "run").glob("*.json")]
    ours = process.members([record for record in records if record], mark="")
    inodes = {link for pid in ours for link in ports._sockets(pid)}
    listening = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.add((fields[1].rsplit(":", 1)[0], int(fields[1].rsplit(":", 1)[1], 16)))
    assert {address for address, _ in listening} == {"0100007F"}
    known = read_json(settings.home / "run" / "ports.json")
    assert {port for _, port in listening} == set(known.values())


def test_nobody_comes_in_without_the_generated_password(found):
    assert fetch(f"{found.airflow}/api/v2/dags")[0] == 401
    assert fetch(f"{found.airflow}/auth/token")[0] in (401, 403)
    for password in ("admin", "", "airflow"):
        body = {"username": "admin", "password": password}
        assert fetch(f"{found.airflow}/auth/token", body, "POST")[0] in (400, 401, 422)
    assert fetch(f"{found.airflow}/auth/token", {"username": "admin", "password": found.password}, "POST")[0] == 201


def test_pools_have_the_sizes_of_the_settings(api):
    assert api.pools() == {"default_pool": 128, **load_settings({}).pools, "ingest": 2, "score": 3}


def test_a_broken_dag_file_shows_as_an_import_error_and_the_others_work(api):
    api.wait_for_dags(["probe"])
    until = time.monotonic() + 60
    while not (errors := api.import_errors()) and time.monotonic() < until:
        time.sleep(0.5)
    assert list(errors) == ["broken.py"] and "on purpose" in errors["broken.py"]
    assert api.dags()["probe"]["is_paused"] is False
    with pytest.raises(ServiceError, match="does not know no_such_dag after 0 s"):
        api.wait_for_dags(["no_such_dag"], patience=0)


def test_a_run_is_started_watched_and_read(api):
    seen = []
    run = api.trigger_run("probe", conf={"number": 41}, run_id="by-hand")
    run = api.wait(run, watch=seen.append, patience=120)
    assert (run.run_id, run.state, run.kind, dict(run.conf)) == ("by-hand", "success", "manual", {"number": 41})
    assert seen[-1] == run and run.finished
    assert api.result("probe", "by-hand", "second") == 42
    tasks = {task.task_id: task for task in api.task_instances("probe", "by-hand")}
    assert {task.state for task in tasks.values()} == {"success"}
    assert "the first task speaks" in api.log(tasks["first"])


def test_a_failed_run_is_returned_and_its_log_names_the_error(api):
    run = api.wait(api.trigger_run("probe", conf={"number": -1}), patience=120)
    assert run.state == "failed"
    states = {task.task_id: task for task in api.task_instances("probe", run.run_id)}
    assert states["first"].state == "success" and states["second"].state == "failed"
    assert "a number below zero" in api.log(states["second"])


def test_backfills_of_one_dag_follow_each_other(api):
    for first, last in (("2024-01-02", "2024-01-04"), ("2024-01-05", "2024-01-06")):
        number = api.create_backfill("probe", first=first, last=last)
        runs = api.wait_for_backfill(number, patience=180)
        assert runs == api.backfill_runs(number)
        assert {run.state for run in runs} == {"success"}
    found = [run for run in api.runs("probe") if run.kind == "backfill"]
    assert len(found) == len({run.run_id for run in found}) == 5


def test_a_refused_request_says_what_was_asked_and_why(api):
    with pytest.raises(ServiceError, match=r"404 to POST /dags/no_such_dag/dagRuns: .*not found"):
        api.trigger_run("no_such_dag")
    with pytest.raises(ServiceError, match=r"409 to POST /dags/probe/dagRuns"):
        api.trigger_run("probe", run_id="by-hand")
    run = services.Run("probe", "no-such-run", "queued", None, "manual", None, None, {})
    with pytest.raises(ServiceError, match="404 to GET"):
        api.wait(run)


def test_a_token_that_is_no_longer_good_is_asked_for_again(api):
    for token in ("old", api._sign_in()[:-4] + "abcd"):
        api._token = token
        assert "probe" in api.dags()


def test_airflows_own_command_line_works_on_this_platform(settings, found):
    command = [sys.executable, "-P", "-m", "airflow", "config", "get-value", "api", "base_url"]
    done = subprocess.run(command, env=services.airflow_environment(settings), capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1] == found.airflow


def test_mlflow_keeps_runs_and_artifacts(settings, found):
    base = f"{found.mlflow}/api/2.0"
    status, answer = fetch(f"{base}/mlflow/experiments/create", {"name": "probe"}, "POST")
    assert status == 200
    assert fetch(f"{base}/mlflow-artifacts/artifacts/probe/a.txt", b"kept", "PUT")[0] == 200
    assert fetch(f"{base}/mlflow-artifacts/artifacts/probe/a.txt") == (200, b"kept")
    assert (settings.home / "mlflow" / "artifacts" / "probe" / "a.txt").read_bytes() == b"kept"
    assert "experiment_id" in json.loads(answer)


def test_up_mends_what_was_killed_and_leaves_the_rest_alone(settings, found, api):
    before = pids(settings)
    for name in ("postgres", "airflow-scheduler"):
        os.kill(before[name], signal.SIGKILL)
    while {part.name: part.state for part in services.status(settings)}["airflow-scheduler"] == "running":
        time.sleep(0.1)
    assert services.up(settings, dags=dags_of(settings)) == found
    after = pids(settings)
    assert {part.state for part in services.status(settings)} == {"running"}
    assert after["airflow-api-server"] == before["airflow-api-server"] and after["mlflow"] == before["mlflow"]
    assert after["airflow-scheduler"] != before["airflow-scheduler"]
    assert api.wait(api.trigger_run("probe"), patience=120).state == "success"


def test_down_leaves_no_process_and_gives_the_ports_back(settings, found):
    services.down(settings)
    assert {part.state for part in services.status(settings)} == {"stopped"}
    assert process.members([], mark=Home(settings.home).digest) == set()
    services.down(settings)
    known = read_json(settings.home / "run" / "ports.json")
    assert all(ports.is_free(port) for port in known.values())


def test_an_outside_database_or_mlflow_that_does_not_answer_is_named_without_its_password(settings, found):
    closed = ports.choose()
    for change, name in (
        ({"database": f"postgresql://user:hidden@127.0.0.1:{closed}/airflow"}, f"database at 127.0.0.1:{closed}"),
        ({"mlflow": f"http://127.0.0.1:{closed}"}, f"MLflow at http://127.0.0.1:{closed}"),
    ):
        with pytest.raises(ServiceError, match=f"{name} does not answer") as told:
            services.up(settings.model_copy(update=change), dags=dags_of(settings))
        assert "hidden" not in str(told.value)
    services.down(settings)


def test_outside_databases_take_the_place_of_the_embedded_one(settings, found):
    """Another home's PostgreSQL is the outside one here: address and password are all that this home knows of it."""
    outside = Home(settings.home.parent / "outside")
    outside.prepare()
    port, secrets = ports.choose(), Secrets.of(outside)
    postgres.start(outside, secrets, port)
    urls = {name: postgres.url(secrets, port, name) for name in ("airflow", "mlflow")}
    there = {"home": settings.home.parent / "inside", "database": urls["airflow"], "mlflow_database": urls["mlflow"]}
    inside = settings.model_copy(update=there)
    try:
        services.up(inside, dags=dags_of(settings))
        assert not postgres.record_file(Home(inside.home)).exists()
        api = services.AirflowApi(inside)
        api.wait_for_dags(["probe"])
        run = api.wait(api.trigger_run("probe", conf={"number": 41}, run_id="outside"), patience=120)
        assert run.state == "success"
        with postgres.connect(urls["airflow"]) as session:
            session.execute("select state from dag_run where run_id = 'outside'")
            assert session.fetchall() == [("success",)]
    finally:
        services.clean(inside)
        postgres.stop(outside)
        postgres.remove_elsewhere(outside)


def test_clean_removes_the_home(settings, found):
    services.clean(settings)
    assert not settings.home.exists()
    services.clean(settings)
