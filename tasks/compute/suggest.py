"""What a search tries next: Optuna's tree-structured Parzen estimator (TPE), as a pure function of what was tried.

Optuna's sampler draws from a generator that can't be saved, so every trial has one of its own, seeded by the
trial's number: a search that was interrupted goes on with the very trials that it would have made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.compute.metrics import higher_is_better
from tasks.compute.params import Space
from tasks.compute.trials import Trial


def suggest(space: Space, metric: str, done: Sequence[Trial], *, seed: int) -> dict[str, Any]:
    """The parameters of the trial after those that are done.

    Args:
        metric: whose values they have.
        seed: of the search.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mixed = np.random.SeedSequence([seed % 2**64, len(done)]).generate_state(1)  # seeds in a row would draw alike
    sampler = optuna.samplers.TPESampler(seed=int(mixed[0]))
    study = optuna.create_study(direction="maximize" if higher_is_better(metric) else "minimize", sampler=sampler)
    ranges = {name: _distribution(space, name) for name in space.ranges}
    for trial in done:
        state = TrialState.COMPLETE if trial.value is not None else TrialState.FAIL
        study.add_trial(create_trial(params=dict(trial.params), distributions=ranges, value=trial.value, state=state))
    if not done and space.first:
        study.enqueue_trial(dict(space.first))
    return dict(study.ask(ranges).params)


def _distribution(space: Space, name: str):
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    asked = space.ranges[name]
    if asked.choice:
        return CategoricalDistribution(asked.choice)
    kind = IntDistribution if name in space.whole else FloatDistribution
    return kind(asked.low, asked.high, log=asked.log)
