"""Who writes: the identity of a run and of one attempt at it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunRef:
    """One attempt of one run of one step; written into every commit.

    Attributes:
        run_id: the same for every attempt of the run (Airflow's run id and task id, or `cli-…`).
        attempt: 1-based number of the attempt.
        actor: who or what started it.
    """

    run_id: str
    attempt: int = 1
    actor: str = "millrace"
