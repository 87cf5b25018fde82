"""Faults that are planted on purpose are caught by the checks that the kills are judged by."""

from __future__ import annotations

import pytest

from tests.support import reader
from tests.support.kill_points import NAME, PREDICTED, Workshop, lake_of

PREDICTIONS = f"{NAME}/predictions"


def publish(workshop: Workshop, mutant: str | None, *, run: str = "the-run"):
    """Score the scenario's days; the lake and how the command ended."""
    project, words = workshop.begin("score")
    return project, workshop.steps.run(project, *words, mutant=mutant, environment={"MILLRACE_RUN_ID": run})


def test_the_checks_pass_where_nothing_is_planted(workshop: Workshop):
    project, ended = publish(workshop, None)
    assert ended.code == 0, ended.err
    reader.check(lake_of(project))


def test_a_commit_that_is_made_twice_is_caught(workshop: Workshop):
    project, ended = publish(workshop, "commit_twice")
    assert ended.code == 0, ended.err
    with pytest.raises(AssertionError, match="was committed twice"):
        reader.check(lake_of(project))


@pytest.mark.parametrize("mutant", [None, "skip_the_fence"])
def test_a_zombie_that_overwrites_its_successor_is_caught(workshop: Workshop, mutant: str | None):
    project, words = workshop.begin("score")
    first = workshop.steps.run(project, *words, environment={"MILLRACE_RUN_ID": "successor"})
    assert first.code == 0, first.err
    zombie = workshop.steps.run(project, *words, mutant=mutant, environment={"MILLRACE_RUN_ID": "zombie"})
    wrote = {run for run, _ in reader.read(lake_of(project) / PREDICTIONS).wrote}
    if mutant is None:
        assert zombie.code == 1 and "SupersededError" in zombie.out
        assert wrote == {"successor"}
    else:
        assert zombie.code == 0 and wrote == {"successor", "zombie"}


@pytest.mark.parametrize("mutant", [None, "check_after_the_commit"])
def test_rows_that_are_published_before_they_are_counted_are_caught(workshop: Workshop, mutant: str | None):
    project, ended = publish(workshop, "+".join(filter(None, (mutant, "lose_a_row"))))
    assert ended.code == 1 and "PopulationError" in ended.out, ended
    if mutant is None:
        reader.check(lake_of(project))
        assert not any(reader.state(lake_of(project)).get(PREDICTIONS, {}).values())
    else:
        with pytest.raises(AssertionError, match="is not there|rows, its entry says"):
            reader.check(lake_of(project))


@pytest.mark.parametrize("mutant", [None, "champion_at_now"])
def test_a_past_day_that_is_scored_by_the_present_champion_is_caught(workshop: Workshop, mutant: str | None):
    project, _ = workshop.begin("rollback")
    words = ("run", "score", NAME, PREDICTED.split("..")[0], "--force", "--json")
    ended = workshop.steps.run(project, *words, mutant=mutant)
    assert ended.code == 0, ended.err
    if mutant is None:
        reader.check(lake_of(project))
    else:
        with pytest.raises(AssertionError, match="was scored by"):
            reader.check(lake_of(project))
