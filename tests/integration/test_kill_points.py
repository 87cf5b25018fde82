"""A writing verb killed at any call of a gateway, and run again, leaves what it leaves when nothing is killed.

All of the committed list is tried by `make proof`, a part that the commit draws by `make test`.
"""

from __future__ import annotations

import random
from functools import cache

import pytest

from tests.support.forked_steps import Point
from tests.support.kill_points import SCENARIOS, Unbroken, Workshop, check_kill, listed, spelled, unbroken
from tests.support.kills import commit
from tests.support.proofs import Proof, kill_points_table

IN_TESTS = 40
ALL = listed()


def drawn() -> list[tuple[str, Point]]:
    """Those of this commit: of every scenario some."""
    draw = random.Random(commit())
    share = {name: [one for one in ALL if one[0] == name] for name in SCENARIOS}
    each, over = divmod(IN_TESTS, len(SCENARIOS))
    more = draw.sample(list(SCENARIOS), over)
    return [one for name, mine in share.items() for one in draw.sample(mine, each + (name in more))]


@pytest.fixture(scope="module")
def whole(workshop: Workshop):
    """Scenario -> how it ends when nothing is killed."""
    return cache(lambda scenario: unbroken(workshop, scenario))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_list_of_kill_points_is_that_of_the_gateway_calls(scenario: str, whole):
    there: Unbroken = whole(scenario)
    assert [spelled(scenario, point) for point in there.points] == [
        spelled(name, point) for name, point in ALL if name == scenario
    ]


@pytest.mark.parametrize(("scenario", "point"), drawn(), ids=str)
def test_a_killed_verb_run_again_leaves_the_same_and_nothing_else(
    scenario: str, point: Point, workshop: Workshop, whole
):
    check_kill(workshop, scenario, point, whole(scenario).after)


@pytest.fixture(scope="module")
def proof() -> Proof:
    """What becomes of all points."""
    return Proof("kill-points", [spelled(*one) for one in ALL], kill_points_table)


@pytest.mark.proof
@pytest.mark.parametrize(("scenario", "point"), ALL, ids=str)
def test_every_killed_verb_run_again_leaves_the_same_and_nothing_else(
    scenario: str, point: Point, workshop: Workshop, whole, proof: Proof
):
    case = spelled(scenario, point)
    proof.skip_kept(case)
    proof.add(case, scenario=scenario, swept=check_kill(workshop, scenario, point, whole(scenario).after))
