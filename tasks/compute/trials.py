"""The trials of a search: each an object under its number, put when it is done.

They survive the process, as checkpoints do: whoever searches for the same training goes on behind the last
one, and of two at the same time both go on with the trial that was first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.compute.checkpoints import History, Objects
from tasks.compute.metrics import higher_is_better
from tasks.errors import TrainingError


@dataclass(frozen=True)
class Trial:
    """A set of parameters that was tried.

    Attributes:
        number: from 1 on.
        params: the parameters that are searched for, under XGBoost's own names.
        value: the search's metric on the validation rows; None where there is none.
        error: why there is none, or an empty string.
        history: XGBoost's metrics on the validation rows after each round.
        started: when, in seconds since 1970 (UTC).
        seconds: how long it took.
        memory: bytes that its process held when it was done.
        way, device: single or external, cpu or cuda.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    error: str
    history: History
    started: float
    seconds: float
    memory: int
    way: str
    device: str


@dataclass(frozen=True)
class Trials:
    """The trials of one search.

    Attributes:
        objects: where they lie.
        prefix: of their keys; it names the training's inputs, so that only the same training goes on with them.
    """

    objects: Objects
    prefix: str

    def keep(self, trial: Trial) -> Trial:
        """Put a trial, and return the one that lies there: another search for the same may have been first."""
        key = self._key(trial.number)
        if self.objects.put_if_absent(key, json.dumps(asdict(trial)).encode()):
            return trial
        return Trial(**json.loads(self.objects.get(key)))

    def done(self, most: int) -> list[Trial]:
        """The trials from the first on, `most` at most."""
        there = {info.key for info in self.objects.list(f"{self.prefix}/")}
        found: list[Trial] = []
        while len(found) < most and self._key(len(found) + 1) in there:
            found.append(Trial(**json.loads(self.objects.get(self._key(len(found) + 1)))))
        return found

    def _key(self, number: int) -> str:
        return f"{self.prefix}/{number:05d}.json"


def best_of(trials: Sequence[Trial], metric: str) -> Trial:
    """The trial with the best value; the first of several that are equal.

    Raises:
        TrainingError: no trial has a value.
    """
    judged = [trial for trial in trials if trial.value is not None]
    if not judged:
        raise TrainingError(
            f"none of {len(trials)} trials gave a model, the first: {trials[0].error}",
            hint="look at train.search.space",
        )
    return (max if higher_is_better(metric) else min)(judged, key=lambda trial: trial.value)
