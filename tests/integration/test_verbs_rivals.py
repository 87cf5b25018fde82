"""Two trainings that end at once: one is promoted, the other is judged against it before it says anything."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest

from tasks.appoint import appoint
from tasks.command.steps import Steps
from tasks.domain.leaks import LeaksResult
from tasks.domain.promotion import ModelRef
from tasks.domain.run import RunRef
from tasks.errors import LedgerConflictError
from tasks.line import read_events
from tasks.promote import promote
from tasks.registry import open_registry
from tasks.settings import load_pipeline
from tests.support.project import Project, with_settings

NAME, TRAINING = "late_orders", "2024-02"


def rival(project: Project, rounds: int) -> tuple[Project, dict]:
    """The project with other parameters, and what came out up to its evidence: it is about to be promoted."""
    folder = project.folder / f"rounds-{rounds}"
    config = project.copy(folder).settings.config
    file = config / "pipelines" / NAME / "pipeline.yaml"
    text = file.read_text().replace("rounds: 5", f"rounds: {rounds}")
    file.write_text(text.replace("gate: {metric: auc}", "gate: {metric: auc, inconclusive: promote}"))
    other = with_settings(project, config=config)
    given: dict = {}
    for verb in ("pin_training", "featurize", "train", "evaluate"):
        given[verb] = other.run(verb, NAME, TRAINING, given=given)
    return other, given


def test_of_two_promotions_at_once_the_loser_is_judged_against_the_winner(champion: Project):
    rivals = [rival(champion, rounds) for rounds in (20, 60)]
    start = Barrier(2, timeout=60)

    def end(one: tuple[Project, dict]) -> tuple:
        said: list[str] = []
        project, given = one
        steps = Steps(project.settings, RunRef(f"run-{id(one)}"), said.append, lambda done, total: None, given=given)
        start.wait()
        return steps.pipeline("promote", NAME, TRAINING), said

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(end, rivals))
    results = sorted((result for result, _ in ended), key=lambda result: result.number)
    assert [result.number for result in results] == [2, 3]
    again = [text for _, said in ended for text in said if "judged again" in text]
    assert len(again) == 1 and "ledger" in again[0]
    first, winner, loser = read_events(load_pipeline(rivals[0][0].settings.config, NAME), champion.lake)
    assert winner.from_model == first.to_model and winner.to_model == winner.candidate, winner.reason
    assert loser.from_model == winner.to_model and loser.candidate != winner.candidate
    evidence = json.loads(champion.lake.objects.get(f"evidence/{loser.evidence}.json"))["evidence"]
    assert evidence["baseline_version"] == winner.candidate.version
    assert f"champion {winner.candidate.version}" in loser.reason


def test_an_event_that_left_the_champion_as_it_was_needs_no_new_judgement(champion: Project):
    other, given = rival(champion, 20)
    spec = load_pipeline(other.settings.config, NAME)
    (first,) = read_events(spec, champion.lake)
    kept = first.to_dict() | {"verdict": "keep", "from_model": first.to_dict()["to_model"], "training": "2024-01"}
    champion.lake.ledger(NAME).append(kept, expected=1)
    result = other.run("promote", NAME, TRAINING, given=given)
    assert result.number == 3
    assert read_events(spec, champion.lake)[-1].evidence == given["evaluate"].digest


def test_evidence_about_an_older_champion_is_not_taken(champion: Project):
    other, given = rival(champion, 20)
    spec = load_pipeline(other.settings.config, NAME)
    rest = {
        "spec": spec,
        "lake": champion.lake,
        "registry": open_registry(champion.settings.mlflow),
        "run": RunRef("x"),
    }
    facts = {"pin": given["pin_training"], "trained": given["train"], "evaluated": given["evaluate"]}
    version, clean = given["train"].model.version, LeaksResult(NAME, "", (), 0)
    appoint(spec=spec, version=version, why="a test", lake=champion.lake, run=RunRef("x"), check=lambda _: clean)
    with pytest.raises(
        LedgerConflictError, match="the ledger has 2 events, 1 when training 2024-02 was pinned"
    ) as told:
        promote(**facts, **rest)
    assert told.value.retry
    assert len(read_events(spec, champion.lake)) == 2


def test_an_event_is_never_recorded_before_the_one_before_it(champion: Project):
    """Whoever's clock is slow: what was believed at a moment is the beginning of the ledger."""
    from tasks.line import append

    spec = load_pipeline(champion.settings.config, NAME)
    (first,) = read_events(spec, champion.lake)
    ahead = datetime(2999, 1, 1, tzinfo=UTC)
    champion.lake.ledger(NAME).append(first.to_dict() | {"recorded_at": ahead.isoformat()}, expected=1)
    events = read_events(spec, champion.lake)
    written = append(spec, events[0], events, champion.lake)
    assert (written.number, written.recorded_at) == (3, ahead)
    assert ModelRef(**first.to_dict()["to_model"]) == written.to_model
