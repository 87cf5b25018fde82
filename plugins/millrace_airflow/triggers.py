"""Waiting in the triggerer, for a partition's inputs or for what is more urgent: no task slot, no process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from millrace_airflow.readiness import missing_inputs
from tasks.domain.partition import instant
from tasks.errors import MillraceError
from tasks.settings import load_settings

_PAUSE_SECONDS = 1.0


class ReadyTrigger(BaseTrigger):
    """Fires once the inputs of a step are there, or once its patience is over.

    Its event is `{"until": ISO text, "missing": [...], "error": text or None}`; nothing missing and
    no error means that the step may go on.

    Args:
        verb: the step.
        name: source or pipeline.
        partition: its key, or `FIRST..LAST`.
        until: ISO text of the moment at which patience is over.
    """

    def __init__(self, *, verb: str, name: str, partition: str, until: str) -> None:
        super().__init__()
        self.verb = verb
        self.name = name
        self.partition = partition
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        values = {"verb": self.verb, "name": self.name, "partition": self.partition, "until": self.until}
        return "millrace_airflow.triggers.ReadyTrigger", values

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(await self._wait())

    async def _wait(self) -> dict[str, Any]:
        settings = load_settings()
        told: tuple[str, ...] = ()
        while True:
            missing: tuple[str, ...] = told or ("its inputs",)
            try:
                missing = await asyncio.to_thread(missing_inputs, settings, self.verb, self.name, self.partition)
            except MillraceError as error:
                if not error.retry:
                    return self._event(error=str(error))
                # A storage that does not answer now may answer at the next look.
                self.log.warning("%s %s %s: %s", self.verb, self.name, self.partition, error)
            if not missing:
                return self._event()
            if missing != told:
                self.log.info("%s %s %s waits for %s", self.verb, self.name, self.partition, ", ".join(missing[:5]))
                told = missing
            if datetime.now(UTC) >= instant(self.until):
                return self._event(missing=missing)
            await asyncio.sleep(settings.poll)

    def _event(self, *, missing: tuple[str, ...] = (), error: str | None = None) -> dict[str, Any]:
        return {"until": self.until, "missing": list(missing), "error": error}


class PauseTrigger(BaseTrigger):
    """Gives a task's slot back for a moment, so that what is more urgent gets it.

    Args:
        done: what the task has done so far, and is told again as the event; JSON.
    """

    def __init__(self, *, done: Any) -> None:
        super().__init__()
        self.done = done

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "millrace_airflow.triggers.PauseTrigger", {"done": self.done}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(_PAUSE_SECONDS)
        yield TriggerEvent(self.done)
