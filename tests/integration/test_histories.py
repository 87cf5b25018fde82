"""Histories of a pipeline drawn at random hold what is promised, whatever is killed in them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.support.forked_steps import ForkedSteps
from tests.support.histories import Histories, Seen, beginning, with_two_reigns
from tests.support.kill_points import Workshop
from tests.support.kills import commit
from tests.support.proofs import Proof, code, histories_table

IN_TESTS, IN_PROOFS, SHARDS = 60, 500, 10


@pytest.fixture(scope="module")
def machine(steps: ForkedSteps, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> type[Histories]:
    folder = tmp_path_factory.mktemp("histories")
    project, versions = beginning(workshop, folder / "begun")

    class Machine(Histories):
        pass

    Machine.begun, Machine.versions, Machine.steps = project, versions, steps
    Machine.two_reigns = with_two_reigns(project, versions, folder / "two reigns")
    Machine.seen, Machine.folder = Seen(), folder / "now"
    return Machine


@pytest.fixture(scope="module")
def proof() -> Proof:
    return Proof("histories", map(str, range(SHARDS)), histories_table)


def run(machine: type[Histories], histories: int, seed: str) -> dict[str, int]:
    """So many histories from a seed, and what there was in them; the first that breaks a promise is shown shortened."""
    machine.seen.counts.clear()
    quiet = settings(
        max_examples=histories,
        stateful_step_count=6,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(seeded(seed)(machine), settings=quiet)
    assert machine.seen.counts["histories"] >= histories and machine.seen.counts["kills"] > 0, machine.seen.counts
    return dict(machine.seen.counts)


def test_histories_drawn_by_the_commit_hold_the_promises(machine: type[Histories]):
    run(machine, IN_TESTS, commit())


@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_many_histories_hold_the_promises(machine: type[Histories], shard: int, proof: Proof):
    proof.skip_kept(str(shard))
    proof.add(str(shard), counts=run(machine, IN_PROOFS // SHARDS, f"proof {code()} {shard}"))
