"""A ledger of numbered, immutable events, each holding the digest of the one before.

Two writers of one number: one wins, the other gets LedgerConflictError and must decide again. The
chain shows later changes of any event but the newest, whose own digest shows careless ones only.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tasks.errors import DigestError, LedgerConflictError
from tasks.lake.objects import ObjectStore

_OWN = ("number", "previous", "digest")


class Ledger:
    """The events at `ledger/<name>/000001.json`, `000002.json`, …"""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self.name = name

    def events(self) -> list[dict[str, Any]]:
        """All events in order, with number, previous and digest.

        Raises:
            DigestError: an event is missing or is not what was written; names it.
        """
        prefix = f"ledger/{self.name}/"
        # the ledgers of a pipeline's backtests lie below its own
        inside = [info.key for info in self._store.list(prefix) if "/" not in info.key.removeprefix(prefix)]
        keys = [key for key in inside if key.endswith(".json")]
        events: list[dict[str, Any]] = []
        previous = ""
        for number, key in enumerate(keys, start=1):
            if key != self._key(number):
                raise self._broken(number, f"expected {self._key(number)}, found {key}")
            event = self._parse(number, self._store.get(key))
            if event["previous"] != previous:
                raise self._broken(number, "it does not follow the event before it")
            previous = event["digest"]
            events.append(event)
        return events

    def append(self, payload: dict[str, Any], *, expected: int) -> dict[str, Any]:
        """Writes the event behind the `expected` ones that the decision was based on.

        Args:
            payload: the event, JSON-able.
            expected: number of events when it was decided, `len(events())`.

        Returns:
            The event as written, with number, previous and digest.

        Raises:
            LedgerConflictError: the ledger has gone on since.
            DigestError: the event before is not what was written.
        """
        taken = [name for name in _OWN if name in payload]
        if taken:
            raise ValueError(f"the ledger itself gives {', '.join(taken)}")
        previous = ""
        if expected:
            try:
                previous = self._parse(expected, self._store.get(self._key(expected)))["digest"]
            except FileNotFoundError as error:
                raise LedgerConflictError(
                    f"ledger {self.name!r} has no event {expected}", hint="read the ledger and decide again"
                ) from error
        # Once through JSON first, so that the digest is of what will be read back.
        event = {"number": expected + 1, "previous": previous, **json.loads(json.dumps(payload, allow_nan=False))}
        event["digest"] = _digest(event)
        data = json.dumps(event, indent=1).encode() + b"\n"
        if not self._store.put_if_absent(self._key(expected + 1), data):
            raise LedgerConflictError(
                f"event {expected + 1} of ledger {self.name!r} was written by somebody else",
                hint="read the ledger and decide again",
            )
        return event

    def _key(self, number: int) -> str:
        return f"ledger/{self.name}/{number:06d}.json"

    def _parse(self, number: int, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data)
            digest, own = event["digest"], event["number"]
            event["previous"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken(number, f"it can't be read: {error!r}") from error
        if own != number or _digest(event) != digest:
            raise self._broken(number, "it is not what was written")
        return event

    def _broken(self, number: int, why: str) -> DigestError:
        return DigestError(
            f"event {number} of ledger {self.name!r}: {why}",
            hint="the ledger was changed by hand: restore the object from a backup",
        )


def _digest(event: dict[str, Any]) -> str:
    rest = {name: value for name, value in event.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
