"""On a wire where requests fail, stall and lose their answers each step ends right or fails clean.

`make test` tries one seed with the 5 % of a bad day; `make proof` twenty, and as many with three times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_loop import STALL, begin, seen
from tests.support.faulty_proxy import FaultyProxy
from tests.support.forked_steps import ForkedSteps
from tests.support.proofs import Proof, faults_table

SHARES = (0.05, 0.15)
SEEDS = 20


@pytest.fixture(scope="module")
def twin(
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_uri: str,
    s3_endpoint: str,
    new_bucket: Callable[[], str],
    steps: ForkedSteps,
) -> dict[str, Any]:
    """What a reader sees after the loop without a fault."""
    where = {"bucket": new_bucket(), "upstream": s3_endpoint, "endpoint": s3_endpoint}
    loop = begin(tmp_path_factory.mktemp("twin"), "twin_orders", mlflow=mlflow_uri, steps=steps, **where)
    loop.run()
    assert not loop.failures
    return seen(loop, s3_endpoint)


@pytest.fixture(scope="module")
def proof() -> Proof:
    """What is injected into all loops."""
    return Proof("faults", [case(seed, share) for share in SHARES for seed in range(SEEDS)], faults_table)


def case(seed: int, share: float) -> str:
    return f"{share} {seed}"


@pytest.fixture
def check(tmp_path: Path, mlflow_uri: str, s3_endpoint: str, new_bucket, steps: ForkedSteps, twin):
    """Goes through the loop behind a faulty wire and compares with the twin; what was injected."""

    def checked(seed: int, share: float) -> dict[str, Any]:
        with FaultyProxy(s3_endpoint, seed=seed, share=share, stall=STALL) as proxy:
            where = {"bucket": new_bucket(), "upstream": s3_endpoint, "endpoint": proxy.endpoint}
            name = f"orders_{seed}_{share * 100:.0f}"
            loop = begin(tmp_path, name, mlflow=mlflow_uri, steps=steps, **where)
            loop.run()
        assert sum(proxy.injected.values()) > 0
        there = seen(loop, s3_endpoint)
        assert there.keys() == twin.keys()
        for part, expected in twin.items():
            assert there[part] == expected, part
        return {
            "share": share,
            "requests": proxy.requests,
            "kinds": proxy.kinds(),
            "lost_creations": proxy.lost_creations,
            "failed": sum(map(len, loop.failures.values())),
        }

    return checked


def test_the_loop_on_a_faulty_wire_ends_as_without_a_fault(check):
    check(seed=SEEDS, share=SHARES[0])


@pytest.mark.proof
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_loop_ends_as_without_a_fault_whatever_the_seed(seed: int, share: float, check, proof: Proof):
    proof.skip_kept(case(seed, share))
    proof.add(case(seed, share), **check(seed, share))
