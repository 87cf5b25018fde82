"""Checkpoints of a training: the model so far under its number of rounds, written by the process that trains.

They survive that process, its cluster and the whole task; whoever trains the same inputs goes on from
the last one. A checkpoint is one object, whole or not there, with its own digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Objects(Protocol):
    """Atomic objects by key (a folder or a bucket); they travel to the workers by pickle."""

    def get(self, key: str) -> bytes: ...

    def put(self, key: str, data: bytes) -> None: ...

    def put_if_absent(self, key: str, data: bytes) -> bool: ...

    def list(self, prefix: str = "") -> list[Any]: ...

    def delete(self, key: str) -> None: ...


History = Mapping[str, list[float | None]]
"""Metric -> its value on the training data after each round; None where it was not taken."""


@dataclass(frozen=True)
class Checkpoint:
    """A training so far.

    Attributes:
        rounds: rounds done.
        model: XGBoost's own format (UBJ).
        history: the metrics of those rounds.
    """

    rounds: int
    model: bytes
    history: History


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training.

    Attributes:
        objects: where they lie.
        prefix: of their keys; it names the training's inputs, so that only the same training goes on from them.
        every: rounds from one to the next.
    """

    objects: Objects
    prefix: str
    every: int

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and remove all but the one before it: a reader of either still finds it."""
        head = {
            "rounds": checkpoint.rounds,
            "history": dict(checkpoint.history),
            "digest": hashlib.sha256(checkpoint.model).hexdigest(),
        }
        name = f"{self.prefix}/{checkpoint.rounds:08d}.checkpoint"
        self.objects.put(name, json.dumps(head).encode() + b"\n" + checkpoint.model)
        for old in [key for key in self._keys() if key < name][:-1]:
            self.objects.delete(old)

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that is whole; None when there is none."""
        for key in reversed(self._keys()):
            try:
                found = _parse(self.objects.get(key))
            except FileNotFoundError:
                continue
            if found is not None:
                return found
        return None

    def clear(self) -> None:
        """Remove them all."""
        for key in self._keys():
            self.objects.delete(key)

    def _keys(self) -> list[str]:
        return [info.key for info in self.objects.list(f"{self.prefix}/")]


def _parse(data: bytes) -> Checkpoint | None:
    line, _, model = data.partition(b"\n")
    try:
        head = json.loads(line)
    except ValueError:
        return None
    if hashlib.sha256(model).hexdigest() != head["digest"]:
        return None
    return Checkpoint(head["rounds"], model, head["history"])
