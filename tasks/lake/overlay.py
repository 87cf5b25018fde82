"""A lake over another one: sources are read from below, everything else is kept apart from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.lake.lake import Lake

if TYPE_CHECKING:
    from tasks.lake.table import Table
    from tasks.settings import Settings


class Overlay(Lake):
    """What is computed here leaves no trace below."""

    def __init__(self, settings: Settings, below: Lake) -> None:
        super().__init__(settings)
        self._below = below

    def table(self, name: str) -> Table:
        """A source's table from below, any other of this lake."""
        return self._below.table(name) if name.startswith("sources/") else super().table(name)
