"""Faults that are planted on purpose are caught by the checks that the kills are judged by."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support import reader
from tests.support.kill_points import NAME, PREDICTED, Workshop, lake_of
from tests.support.proofs import Proof, mutants_table

PREDICTIONS = f"{NAME}/predictions"


def said_of(lake) -> str:
    """What the reader finds wrong with a lake; '' for nothing."""
    try:
        reader.check(lake)
    except AssertionError as error:
        return str(error).splitlines()[0]
    return ""


def commit_twice(workshop: Workshop, mutant: str | None) -> str:
    project, words = workshop.begin("score")
    ended = workshop.steps.run(project, *words, mutant=mutant, environment={"MILLRACE_RUN_ID": "the-run"})
    assert ended.code == 0, ended.err
    return said_of(lake_of(project))


def skip_the_fence(workshop: Workshop, mutant: str | None) -> str:
    """A zombie ends after its successor; only the runs that the log names tell of it, since it wrote the same rows."""
    project, words = workshop.begin("score")
    first = workshop.steps.run(project, *words, environment={"MILLRACE_RUN_ID": "successor"})
    assert first.code == 0, first.err
    zombie = workshop.steps.run(project, *words, mutant=mutant, environment={"MILLRACE_RUN_ID": "zombie"})
    wrote = {run for run, _ in reader.read(lake_of(project) / PREDICTIONS).wrote}
    if wrote == {"successor"}:
        assert zombie.code == 1 and "SupersededError" in zombie.out
        return said_of(lake_of(project))
    return f"the log has partitions of {' and '.join(sorted(wrote))}"


def check_after_the_commit(workshop: Workshop, mutant: str | None) -> str:
    project, words = workshop.begin("score")
    both = "+".join(filter(None, (mutant, "lose_a_row")))
    ended = workshop.steps.run(project, *words, mutant=both, environment={"MILLRACE_RUN_ID": "the-run"})
    assert ended.code == 1 and "PopulationError" in ended.out, ended
    if mutant is None:
        assert not any(reader.state(lake_of(project)).get(PREDICTIONS, {}).values())
    return said_of(lake_of(project))


def champion_at_now(workshop: Workshop, mutant: str | None) -> str:
    project, _ = workshop.begin("rollback")
    words = ("run", "score", NAME, PREDICTED.split("..")[0], "--force", "--json")
    ended = workshop.steps.run(project, *words, mutant=mutant)
    assert ended.code == 0, ended.err
    return said_of(lake_of(project))


MUTANTS: dict[str, tuple[Callable[[Workshop, str | None], str], str]] = {
    "commit_twice": (commit_twice, "was committed twice"),
    "skip_the_fence": (skip_the_fence, "successor and zombie"),
    "check_after_the_commit": (check_after_the_commit, "is not there|rows, its entry says"),
    "champion_at_now": (champion_at_now, "was scored by"),
}
"""Mutant -> what is run with it or without, and what is said of the lake then."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_nothing_is_found_where_it_is_not_planted(workshop: Workshop, mutant: str):
    assert MUTANTS[mutant][0](workshop, None) == ""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_mutant_is_caught(workshop: Workshop, mutant: str):
    run, words = MUTANTS[mutant]
    assert re.search(words, run(workshop, mutant))


@pytest.fixture(scope="module")
def proof() -> Proof:
    """What was said of all mutants."""
    return Proof("mutants", MUTANTS, mutants_table)


@pytest.mark.proof
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_planted_mutant_is_caught(workshop: Workshop, mutant: str, proof: Proof):
    proof.skip_kept(mutant)
    run, words = MUTANTS[mutant]
    without, found = run(workshop, None), run(workshop, mutant)
    assert without == "" and re.search(words, found)
    proof.add(mutant, mutant=mutant, said=re.sub(r"[0-9a-f]{12,}|/\S+/", "…", found))
