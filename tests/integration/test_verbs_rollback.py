"""A bad version is taken back: the pointer at once, its days scored again, and no gate brings it back."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.__main__ import main
from tasks.appoint import appoint
from tasks.domain.leaks import LeaksResult
from tasks.domain.run import RunRef
from tasks.errors import NotFoundError, SupersededError
from tasks.lake.delta import Snapshot
from tasks.line import read_events
from tasks.plan import due_scores
from tasks.registry import open_registry
from tasks.rollback import rollback
from tasks.settings import load_pipeline
from tests.support.pipelines import deliver
from tests.support.project import Project, ended, with_settings

NAME, PREDICTIONS = "late_orders", "late_orders/predictions"
GOOD_DAYS, BAD_DAYS = ("2024-02-02", "2024-02-03"), ("2024-02-04", "2024-02-05")
WHY = "it knows no shop"
Call = Callable[..., tuple[int, Any, str]]


def retrain(project: Project, rounds: int) -> int:
    """Another version of the same training; its number."""
    file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
    file.write_text(file.read_text().replace("rounds: 5", f"rounds: {rounds}"))
    return project.run("train", NAME, "2024-02").model.version


def calling(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Project) -> Call:
    """Calls `millrace` on a project in this process; exit code, result, stderr."""
    for name, value in project.environment().items():
        if name.startswith("MILLRACE_"):
            monkeypatch.setenv(name, value)

    def call(*words: object) -> tuple[int, Any, str]:
        code = main([*map(str, words), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out.splitlines()[-1]) if out.strip() else None, err

    return call


@pytest.fixture(scope="module")
def bad_one(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, int, int]:
    """Two days scored by the first champion, then another one by hand, and two days by that; and both numbers."""
    project = first_champion.copy(tmp_path_factory.mktemp("bad") / "project")
    good = read_events(load_pipeline(project.settings.config, NAME), project.lake)[0].candidate.version
    bad = retrain(project, 20)  # no gate would have kept it out: what was wrong with it, none saw
    deliver(project.incoming, date(2024, 2, 1), date(2024, 2, 6))
    project.load({"orders": "2024-02-01..2024-02-06", "arrivals": "2024-02-01..2024-02-05"})
    project.run("score", NAME, "..".join(GOOD_DAYS))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in project.environment().items():
            patch.setenv(name, value)
        assert main(["promote", NAME, str(bad), "--why", "it looks better"]) == 0
    project.run("score", NAME, "..".join(BAD_DAYS))
    return project, good, bad


@pytest.fixture
def bad(bad_one: tuple[Project, int, int], tmp_path, monkeypatch, capsys) -> tuple[Project, int, int, Call]:
    """A copy of its own of that, and its command."""
    first, good, bad = bad_one
    project = first.copy(tmp_path / "project")
    return project, good, bad, calling(monkeypatch, capsys, project)


def scored(project: Project) -> dict[str, int]:
    """Published partition -> version, as the commits say and as the rows do."""
    found = {key: entry.meta["model_version"] for (key,), entry in project.table(PREDICTIONS).entries().items()}
    assert {(row["partition_key"], row["model_version"]) for row in project.rows(PREDICTIONS)} == set(found.items())
    return found


def rolled_back(project: Project, *, repair: bool) -> None:
    """The ledger's part of a rollback alone, as one that is interrupted leaves it."""
    spec = load_pipeline(project.settings.config, NAME)
    # who was champion before comes back without a check
    rollback(spec=spec, why=WHY, lake=project.lake, run=RunRef("test"), check=lambda _: pytest.fail(), repair=repair)


def live_due(project: Project) -> list[str]:
    """The days that a wake-up at noon of the fifth would have scored, were they live."""
    files = [project.settings.config / "sources" / name / "source.yaml" for name in ("orders", "arrivals")]
    texts = [file.read_text() for file in files]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text.replace("history: 2025-01-01", "history: 2024-02-01"))
    live = load_pipeline(project.settings.config, NAME)
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return [one.key for one in due_scores(spec=live, lake=project.lake, now=datetime(2024, 2, 5, 17, tzinfo=UTC))]


def events(project: Project) -> list:
    return read_events(load_pipeline(project.settings.config, NAME), project.lake)


def test_a_promotion_by_hand_scores_from_after_what_is_published(bad):
    project, good, worse, call = bad
    assert scored(project) == dict.fromkeys(GOOD_DAYS, good) | dict.fromkeys(BAD_DAYS, worse)
    event = events(project)[-1]
    assert (event.verdict, event.from_model.version, event.to_model.version) == ("manual", good, worse)
    assert event.effective_from.isoformat() == "2024-02-03T09:00:00.000001+00:00"
    evidence = json.loads(project.lake.objects.get(f"evidence/{event.evidence}.json"))
    assert (evidence["why"], evidence["instead_of"]) == ("it looks better", good)
    code, again, _ = call("promote", NAME, worse, "--why", "once more")
    assert (code, again["number"]) == (0, event.number) and len(events(project)) == 2


def test_a_rollback_moves_the_pointer_at_once_and_lists_the_bad_versions_days(bad):
    project, good, worse, call = bad
    code, result, _ = call("rollback", NAME, "--why", WHY)
    assert code == 0, result
    assert (result["version"], result["champion"], tuple(result["scored"])) == (worse, good, BAD_DAYS)
    # what was published stays, and is what an as-of backfill gives back; what comes goes to the version before
    before = project.rows(PREDICTIONS)
    project.run("score", NAME, "2024-02-02..2024-02-06", force=True)
    assert [row for row in project.rows(PREDICTIONS) if row["partition_key"] != "2024-02-06"] == before
    assert scored(project) == dict.fromkeys((*GOOD_DAYS, "2024-02-06"), good) | dict.fromkeys(BAD_DAYS, worse)
    # with repair after all: the days that it kept
    code, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert (code, result["version"], tuple(result["repaired"])) == (0, worse, BAD_DAYS)
    assert set(scored(project).values()) == {good} and [one.repair for one in events(project)[2:]] == [False, True]


def test_the_ledgers_part_of_a_rollback_takes_less_than_a_second(bad):
    project, good, worse, _ = bad
    spec, lake = load_pipeline(project.settings.config, NAME), project.lake
    began = time.perf_counter()
    # who was champion before comes back without a check
    result, _ = rollback(spec=spec, why=WHY, lake=lake, run=RunRef("test"), check=lambda _: pytest.fail(), repair=True)
    assert time.perf_counter() - began < 1
    assert (result.version, result.champion, result.scored) == (worse, good, BAD_DAYS)


def test_a_repair_scores_the_bad_versions_days_again_and_a_second_one_changes_nothing(bad):
    project, good, worse, call = bad
    untouched = project.rows(PREDICTIONS, *((day,) for day in GOOD_DAYS))
    code, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert (code, tuple(result["repaired"]), result["left"]) == (0, BAD_DAYS, [])
    assert scored(project) == dict.fromkeys((*GOOD_DAYS, *BAD_DAYS), good)
    assert project.rows(PREDICTIONS, *((day,) for day in GOOD_DAYS)) == untouched
    objects = project.objects()
    code, again, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert (code, again["number"], again["resumed"], again["scored"]) == (0, result["number"], True, [])
    assert project.objects() == objects
    # an as-of backfill afterwards never brings the bad version back
    project.run("score", NAME, "2024-02-02..2024-02-05", force=True)
    assert set(scored(project).values()) == {good}


def test_an_as_of_backfill_changes_nothing_and_gives_a_deleted_table_back_row_for_row(bad):
    project, good, worse, call = bad
    days, predictions = "2024-02-02..2024-02-05", project.settings.home / "lake" / PREDICTIONS
    for repaired in (False, True):
        if repaired:
            assert call("rollback", NAME, "--why", WHY, "--repair")[0] == 0
        before, version = project.rows(PREDICTIONS), project.version(PREDICTIONS)
        code, planned, _ = call("plan", NAME, "--from", "2024-02-02", "--to", "2024-02-05")
        assert code == 0 and not [one for one in planned["partitions"] if one["due"]]
        assert call("run", "score", NAME, days)[0] == 0 and project.version(PREDICTIONS) == version
        shutil.rmtree(predictions)  # as if it had never been: what is due follows from what is there
        _, planned, _ = call("plan", NAME, "--from", "2024-02-02", "--to", "2024-02-05")
        assert [one["due"] for one in planned["partitions"]] == [True] * 4
        assert call("run", "score", NAME, days)[0] == 0
        assert project.rows(PREDICTIONS) == before
        assert set(scored(project).values()) == ({good} if repaired else {good, worse})


@pytest.mark.parametrize(
    ("target", "moment"),
    [("tasks.lake.ledger:Ledger.append", "after"), ("tasks.lake.delta:Snapshot.commit", "before")],
)
def test_a_repair_that_was_killed_is_finished_by_the_same_command(bad, target: str, moment: str):
    project, good, worse, call = bad
    program = ["-m", "tests.support.killed_step", target, moment, "1"]
    killed = project.start("rollback", NAME, "--why", WHY, "--repair", program=program)
    assert ended(killed).code == -signal.SIGKILL
    assert len(events(project)) == 3 and scored(project)[BAD_DAYS[0]] == worse
    version = project.version(PREDICTIONS)
    code, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert (code, result["resumed"], tuple(result["repaired"])) == (0, True, BAD_DAYS)
    assert set(scored(project).values()) == {good}
    assert len(events(project)) == 3 and project.version(PREDICTIONS) == version + 1


def test_a_repair_that_died_before_it_scored_is_due_and_finished_by_a_run_of_its_days(bad, tmp_path):
    project, good, worse, call = bad
    days = "2024-02-02..2024-02-05"
    program = ["-m", "tests.support.killed_step", "tasks.lake.ledger:Ledger.append", "after", "1"]
    killed = project.start("rollback", NAME, "--why", WHY, "--repair", program=program)
    assert ended(killed).code == -signal.SIGKILL and scored(project)[BAD_DAYS[0]] == worse
    twin = project.copy(tmp_path / "twin")
    assert twin.command("rollback", NAME, "--why", WHY, "--repair").code == 0

    def due() -> dict[str, tuple[str, int]]:
        _, planned, _ = call("plan", NAME, "--from", "2024-02-02", "--to", "2024-02-05")
        return {one["key"]: (one["why"], one["version"]) for one in planned["partitions"] if one["due"]}

    why = f"rolled-back model: version {worse} scored it, version {good} repairs it"
    assert due() == dict.fromkeys(BAD_DAYS, (why, good))
    assert live_due(project) == list(BAD_DAYS)
    ran = project.run("score", NAME, days)
    assert [(one.key, one.model_version) for one in ran.partitions] == [(day, good) for day in BAD_DAYS]
    assert project.rows(PREDICTIONS) == twin.rows(PREDICTIONS)
    assert {key: entry.meta for key, entry in project.table(PREDICTIONS).entries().items()} == {
        key: entry.meta for key, entry in twin.table(PREDICTIONS).entries().items()
    }
    version = project.version(PREDICTIONS)
    assert due() == {} and live_due(project) == []
    assert call("run", "score", NAME, days)[0] == 0 and project.version(PREDICTIONS) == version


def test_what_a_repair_left_and_somebody_chose_by_hand_is_not_due(bad):
    project, good, worse, call = bad
    project.run("score", NAME, BAD_DAYS[0], model=worse, force=True)
    rolled_back(project, repair=True)
    _, planned, _ = call("plan", NAME, "--from", BAD_DAYS[0], "--to", BAD_DAYS[1])
    assert [(one["key"], one["due"]) for one in planned["partitions"]] == list(
        zip(BAD_DAYS, (False, True), strict=True)
    )
    assert planned["partitions"][0]["why"] == f"published, by version {worse}, as it was asked for"
    assert live_due(project) == list(BAD_DAYS[1:])


def test_a_repair_scores_each_day_from_the_data_that_it_was_published_from_and_says_so(bad, tmp_path, capsys):
    project, good, worse, call = bad
    restated = BAD_DAYS[1]
    file = project.incoming / "orders" / f"{restated}.csv"
    header, first, *others = file.read_text().splitlines()
    file.write_text("\n".join([header, f"{first.rpartition(',')[0]},899.5", *others[:-1]]) + "\n")
    project.load({"orders": restated})
    project.run("score", NAME, restated, data="corrected")
    rolled_back(project, repair=True)
    twin = project.copy(tmp_path / "twin")
    # a run on as-known data leaves the corrected day alone, and says what scores it
    (due,) = project.run("pin", NAME, "..".join(BAD_DAYS)).partitions
    (left,) = project.run("pin", NAME, "..".join(BAD_DAYS)).skipped
    assert (due.key, left.key) == BAD_DAYS and left.reason.endswith("repairs it, with --data corrected")
    assert live_due(project) == list(BAD_DAYS[:1])
    twin.run("score", NAME, BAD_DAYS[0])
    twin.run("score", NAME, restated, data="corrected")
    assert main(["rollback", NAME, "--why", WHY, "--repair"]) == 0
    told = capsys.readouterr().out
    assert f"scored again: {', '.join(BAD_DAYS)}" in told
    assert f"of these from corrected data, as before: {restated}\n" in told
    meta = project.entry(PREDICTIONS, restated).meta
    assert (meta["data"], meta["restated"], meta["model_version"]) == ("corrected", [f"orders/{restated}@2"], good)
    assert "data" not in project.entry(PREDICTIONS, BAD_DAYS[0]).meta
    assert len(project.rows(PREDICTIONS, (restated,))) == 39 and project.rows(PREDICTIONS) == twin.rows(PREDICTIONS)
    assert project.run("pin", NAME, "..".join(BAD_DAYS)).partitions == ()


def test_days_that_cannot_be_scored_again_are_left_and_told(bad):
    project, good, worse, call = bad
    file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
    whole = file.read_text()
    file.write_text(whole.replace("end: 2024-12-31", "end: 2024-02-04"))
    code, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert (code, tuple(result["repaired"])) == (1, BAD_DAYS[:1])
    assert result["left"] == [{"key": BAD_DAYS[1], "reason": "outside of the pipeline's days 2024-01-01 to 2024-02-04"}]
    source = project.settings.config / "sources" / "orders" / "source.yaml"
    delivered = source.read_text()
    file.write_text(whole)
    source.write_text(delivered.replace("available: start-6h", "available: start-60h"))
    code, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert code == 1 and result["left"] == [{"key": BAD_DAYS[1], "reason": "waits for orders/2024-02-07"}]
    source.write_text(delivered)
    code, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert (code, tuple(result["repaired"]), len(events(project))) == (0, BAD_DAYS[1:], 3)


def test_a_rolled_back_version_is_promoted_by_a_person_only(bad):
    project, good, worse, call = bad
    call("rollback", NAME, "--why", WHY, "--repair")
    file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
    file.write_text(file.read_text().replace("gate: {metric: auc}", "gate: {metric: auc, inconclusive: promote}"))
    judged = project.run("promote", NAME, "2024-02")  # its training was never judged
    event = events(project)[-1]
    assert event.candidate.version == worse and not judged.promoted and judged.champion == good
    assert f"barred since event 3 rolled it back ({WHY})" in event.reason
    code, told, _ = call("promote", NAME, worse, "--why", "now it does")
    assert code == 2 and "--unbar" in told["error"]["hint"]
    code, result, _ = call("promote", NAME, worse, "--why", "now it does", "--unbar")
    assert (code, result["champion"], result["verdict"]) == (0, worse, "manual")
    project.run("score", NAME, "2024-02-06")
    assert scored(project)["2024-02-06"] == worse


def test_a_rollback_works_while_mlflow_is_down_and_the_alias_follows_later(bad, monkeypatch):
    project, good, worse, call = bad
    there = project.settings.mlflow
    call("ledger", NAME, "--reconcile")  # the alias is one for all copies of the project
    monkeypatch.setenv("MILLRACE_MLFLOW", "http://127.0.0.1:9")
    code, result, err = call("rollback", NAME, "--why", WHY)
    assert (code, result["champion"], result["alias"]) == (0, good, "behind: MLflow was not there")
    assert "MLflow does not answer" in err and "--reconcile" in err
    assert call("promote", NAME, worse, "--why", "again", "--unbar")[0] == 1 and len(events(project)) == 3
    monkeypatch.setenv("MILLRACE_MLFLOW", there)
    assert call("ledger", NAME, "--reconcile")[1]["alias"] == "moved"
    assert call("ledger", NAME, "--reconcile")[1]["alias"] == "in step"


def test_an_alias_that_was_moved_by_hand_is_told_and_stays_until_somebody_asks(bad, capsys, monkeypatch):
    project, good, worse, call = bad
    call("ledger", NAME, "--reconcile")  # the alias is one for all copies of the project
    registry = open_registry(project.settings.mlflow)
    assert call("ledger", NAME)[1]["alias"] == call("status")[1]["pipelines"][0]["alias"] == "in step"
    registry.project_alias(NAME, good)
    told = f"MLflow's alias shows version {good}, the champion is version {worse}: `millrace ledger {NAME} --reconcile` puts it back"
    assert call("ledger", NAME)[1]["alias"] == call("status")[1]["pipelines"][0]["alias"] == told
    for words, line in ((["ledger", NAME], f"alias: {told}"), (["status"], f"{NAME}: {told}")):
        assert main(words) == 0 and capsys.readouterr().out.splitlines()[-1] == line
    assert registry.alias(NAME) == good
    assert call("ledger", NAME, "--reconcile")[1]["alias"] == "moved" and registry.alias(NAME) == worse
    monkeypatch.setenv("MILLRACE_MLFLOW", "http://127.0.0.1:9")
    code, shown, _ = call("ledger", NAME)
    assert (
        code == 0 and len(shown["events"]) == 2 and shown["alias"].startswith("unknown: MLflow at http://127.0.0.1:9")
    )
    assert call("status")[1]["pipelines"][0]["alias"] is None


def test_the_ledger_says_who_scores_a_day_why_and_what_was_believed(bad):
    project, good, worse, call = bad
    promoted = events(project)[-1]
    call("rollback", NAME, "--why", WHY, "--repair")
    _, now, _ = call("ledger", NAME, "--at", BAD_DAYS[0])
    assert (now["champion"], now["published_by"], now["event"]["number"]) == (good, good, 3)
    then = promoted.recorded_at.isoformat()
    _, believed, _ = call("ledger", NAME, "--at", BAD_DAYS[0], "--known-at", then)
    assert (believed["champion"], believed["event"]["reason"]) == (worse, "it looks better")
    _, early, _ = call("ledger", NAME, "--at", "2024-01-15T09:00Z")
    assert early["champion"] is None and early["event"] is None
    _, whole, _ = call("ledger", NAME)
    assert [one["verdict"] for one in whole["events"]] == ["promote", "manual", "rollback"]
    assert [one["version"] for one in whole["champions"]] == [good]
    assert all(project.lake.objects.exists(one["evidence_at"]) for one in whole["events"])
    _, before, _ = call("ledger", NAME, "--known-at", then)
    assert [one["version"] for one in before["champions"]] == [good, worse] and len(before["events"]) == 2
    assert call("ledger", NAME, "--at", "someday")[0] == 2


def test_a_person_reads_the_same_in_words(bad, capsys):
    project, good, worse, _ = bad
    assert main(["rollback", NAME, "--why", WHY, "--repair"]) == 0
    out, err = capsys.readouterr()
    assert f"published partitions of version {worse}: {', '.join(BAD_DAYS)}" in out
    assert f"scored again: {', '.join(BAD_DAYS)}" in out and f"version {worse} is rolled back (event 3)" in err
    assert main(["ledger", NAME]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 + 1 + 2 and "rollback, repair" in lines[3] and lines[3].endswith(WHY)
    assert lines[-1].startswith(str(good))
    assert main(["ledger", NAME, "--at", BAD_DAYS[0]]) == 0
    assert capsys.readouterr().out.endswith(f"published by version {good} (as-of)\n")


def test_one_event_is_shown_whole_with_its_run_and_its_evidence(bad, capsys):
    project, _, worse, call = bad
    event = events(project)[-1]
    assert main(["ledger", NAME, "--event", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = dict(line.split("  ", 1) for line in lines)
    told = {name.strip(): text.strip() for name, text in shown.items()}
    assert (told["verdict"], told["to version"], told["run"]) == ("manual", str(worse), event.run_id)
    assert json.loads(Path(told["evidence"]).read_text())["why"] == told["reason"] == "it looks better"
    _, value, _ = call("ledger", NAME, "--event", 2)
    assert (value["run_id"], value["number"]) == (event.run_id, 2)
    for number in (0, 3):
        code, refused, _ = call("ledger", NAME, "--event", number)
        assert code == 2 and refused["error"]["message"] == f"--event: the ledger of {NAME} has no event {number}"


def test_a_named_version_scores_any_day_but_those_that_it_was_trained_on(bad):
    project, good, worse, call = bad
    train, holdout = (project.run("pin_training", NAME, "2024-02").to_dict()[name] for name in ("train", "holdout"))
    days = f"2024-01-{int(train[1][-2:]) - 1:02}..{holdout[1]}"
    result = project.run("score", NAME, days, model=worse)
    refused = {one.key: one.reason for one in result.skipped}
    assert max(refused) == train[1] and len(refused) == 2
    assert set(refused.values()) == {f"in sample: version {worse} was trained on {train[0]} to {train[1]}"}
    assert {one.key for one in result.partitions} >= set(holdout)  # they judged it, and it never saw them
    assert project.entry(PREDICTIONS, holdout[0]).meta["chosen"] == "named"
    # as the command: told, listed, and no success
    code, value, _ = call("run", "score", NAME, train[1], "--model", worse)
    assert code == 1 and value["skipped"][0]["key"] == train[1] and project.entry(PREDICTIONS, train[1]) is None
    code, _, _ = call("run", "score", NAME, train[1], "--model", worse, "--allow-in-sample")
    meta = project.entry(PREDICTIONS, train[1]).meta
    assert code == 0 and (meta["in_sample"], meta["chosen"], meta["model_version"]) == (True, "named", worse)
    assert f"published by version {worse} (named, in sample)" in project.command("ledger", NAME, "--at", train[1]).out
    # published is published, whichever model is asked for
    assert project.run("pin", NAME, GOOD_DAYS[0], model=worse).skipped[0].reason == f"published, by version {good}"
    assert "in_sample" not in project.entry(PREDICTIONS, GOOD_DAYS[0]).meta
    with pytest.raises(NotFoundError, match="late_orders has no version 99 .its versions: "):
        project.run("pin", NAME, GOOD_DAYS[0], model=99)


def test_the_newest_champion_may_score_days_of_others(bad):
    project, good, worse, call = bad
    forced = project.run("score", NAME, "..".join(GOOD_DAYS), model="champion", force=True)
    assert {one.model_version for one in forced.partitions} == {worse}
    assert project.entry(PREDICTIONS, GOOD_DAYS[0]).meta["chosen"] == "champion"
    # its repair finds them too, though it never was their champion
    code, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert (code, tuple(result["repaired"])) == (0, (*GOOD_DAYS, *BAD_DAYS))
    assert scored(project) == dict.fromkeys((*GOOD_DAYS, *BAD_DAYS), good)


def test_a_pin_of_the_bad_version_from_before_the_rollback_publishes_nothing_unless_it_was_named(bad):
    project, good, worse, call = bad
    as_of, named = (project.run("pin", NAME, "2024-02-06", model=model) for model in ("as-of", worse))
    call("rollback", NAME, "--why", WHY, "--repair")
    with pytest.raises(SupersededError, match="another version became champion"):
        project.run("score", NAME, "2024-02-06", given={"pin": as_of})
    assert project.run("score", NAME, "2024-02-06", given={"pin": named}).partitions[0].status == "published"
    assert scored(project)["2024-02-06"] == worse


def within_the_commit(monkeypatch: pytest.MonkeyPatch, decide: Callable[[], Any]) -> None:
    """Has somebody decide after the score's last look at the ledger, before its predictions are committed."""
    commit, once = Snapshot.commit, [decide]

    def late(self: Snapshot, *words: Any, **facts: Any) -> Any:
        if self.uri.endswith(PREDICTIONS) and once:
            once.pop()()
        return commit(self, *words, **facts)

    monkeypatch.setattr(Snapshot, "commit", late)


def test_a_day_whose_champion_changed_within_its_commit_is_due_and_a_run_puts_it_right(bad, tmp_path, monkeypatch):
    project, good, worse, call = bad
    twin = project.copy(tmp_path / "twin")

    def promote(one: Project) -> None:
        spec = load_pipeline(one.settings.config, NAME)
        clean = LeaksResult(NAME, "", (), 0)
        why = "it is better"
        appoint(spec=spec, version=good, why=why, lake=one.lake, run=RunRef("test"), check=lambda _: clean)

    promote(twin)
    twin.run("score", NAME, "2024-02-06")
    within_the_commit(monkeypatch, lambda: promote(project))
    assert project.run("score", NAME, "2024-02-06").partitions[0].model_version == worse
    _, planned, _ = call("plan", NAME, "--from", "2024-02-02", "--to", "2024-02-06")
    assert [(one["key"], one["why"], one["version"]) for one in planned["partitions"] if one["due"]] == [
        ("2024-02-06", f"version {good} became its champion while version {worse} scored it", good)
    ]
    project.run("score", NAME, "2024-02-02..2024-02-06")
    assert scored(project)["2024-02-06"] == good and project.rows(PREDICTIONS) == twin.rows(PREDICTIONS)
    assert project.run("pin", NAME, "2024-02-02..2024-02-06").partitions == ()


def test_a_rollback_without_repair_within_a_commit_leaves_the_day_until_a_repair(bad, monkeypatch):
    project, good, worse, call = bad
    within_the_commit(monkeypatch, lambda: rolled_back(project, repair=False))
    project.run("score", NAME, "2024-02-06")
    (skipped,) = project.run("pin", NAME, "2024-02-06").skipped
    assert skipped.reason == f"rolled-back model: version {worse} scored it, and was rolled back without repair"
    _, result, _ = call("rollback", NAME, "--why", WHY, "--repair")
    assert tuple(result["repaired"]) == (*BAD_DAYS, "2024-02-06") and set(scored(project).values()) == {good}


def test_who_comes_back_may_be_named_and_what_is_unclear_is_refused(bad):
    project, good, worse, call = bad
    assert call("rollback", NAME, "--why", WHY, "--to", worse)[0] == 2
    assert call("rollback", NAME, "--why", WHY, "--to", 99)[0] == 1  # there is no such version
    assert call("rollback", NAME, "--why", WHY, "--from", good)[0] == 2  # it is champion no longer
    assert len(events(project)) == 2
    code, result, _ = call("rollback", NAME, "--why", WHY, "--to", good)
    assert (code, result["champion"]) == (0, good)
    code, told, _ = call("rollback", NAME, "--why", "another reason")
    assert code == 2 and f"--from {worse} goes on with that one" in told["error"]["hint"]
    assert len(events(project)) == 3


def test_versions_of_a_lake_without_mlflow_are_scored_by_name(bad):
    project, good, worse, _ = bad
    down = with_settings(project, mlflow="http://127.0.0.1:9")
    assert down.run("score", NAME, "2024-02-06", model=good).partitions[0].model_version == good
