"""Rollups: what feature SQL needs of each source partition, computed once and read by every cut that sees it.

A rollup follows the partitions of one source. For each of them its SQL sees that partition, and of the
other sources that it reads what lies in the same time: only revisions that the cut itself sees. So it is
named by exactly these revisions, and another cut that sees the same ones reads the same rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.domain.cut import Visible
from tasks.domain.partition import Partition
from tasks.domain.source import SourceSpec

Revisions = tuple[tuple[str, int], ...]
"""(partition key, revision) pairs."""
_ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


@dataclass(frozen=True)
class Rollup:
    """One rollup of a feature view.

    Attributes:
        name: of its view in the feature SQL.
        over: the source whose partitions it follows.
        sql: its SELECT.
        reads: the sources that it reads.
        columns: name and type of what comes out.
        id: 12 hex digits of a digest of all that it depends on.
    """

    name: str
    over: str
    sql: str
    reads: tuple[str, ...]
    columns: dict[str, str] = field(hash=False)
    id: str


@dataclass(frozen=True)
class Piece:
    """A rollup of one source partition, made of certain revisions.

    Attributes:
        key: of the source partition that it follows.
        start, end: that partition's bounds, aware.
        inputs: source -> what it is made of, in the order of time.
        made_of: 12 hex digits of a digest of `inputs`.
    """

    key: str
    start: datetime
    end: datetime
    inputs: tuple[tuple[str, Revisions], ...]
    made_of: str


class Pieces:
    """Finds the pieces of one rollup that a cut sees; what two cuts share is found once."""

    def __init__(self, rollup: Rollup, sources: Mapping[str, SourceSpec]) -> None:
        self._rollup = rollup
        self._sources = sources
        self._bounds: dict[tuple[str, str], tuple[datetime, datetime]] = {}
        self._found: dict[tuple, Piece] = {}

    def seen(self, visible: Mapping[str, Visible]) -> tuple[Piece, ...]:
        """The pieces that a cut sees, in the order of time.

        Args:
            visible: source -> what it shows to the cut.
        """
        over = self._rollup.over
        others = [name for name in self._rollup.reads if name != over]
        spans = {name: [(*self._of(name, pair[0]), pair) for pair in visible[name].revisions] for name in others}
        low = dict.fromkeys(others, 0)
        pieces = []
        for pair in visible[over].revisions:
            start, end = self._of(over, pair[0])
            inputs = {over: (pair,)}
            for name, rows in spans.items():
                at = low[name]
                while at < len(rows) and rows[at][1] <= start:
                    at += 1
                low[name] = at
                found = []
                while at < len(rows) and rows[at][0] < end:
                    found.append(rows[at][2])
                    at += 1
                inputs[name] = tuple(found)
            pieces.append(self._piece(pair[0], start, end, tuple(sorted(inputs.items()))))
        return tuple(pieces)

    def _of(self, source: str, key: str) -> tuple[datetime, datetime]:
        bounds = self._bounds.get((source, key))
        if bounds is None:
            spec = self._sources[source]
            if spec.grain == "none":
                bounds = _ALWAYS
            else:
                partition = Partition.parse(spec.grain, spec.timezone, key)
                bounds = partition.start, partition.end
            self._bounds[source, key] = bounds
        return bounds

    def _piece(self, key: str, start: datetime, end: datetime, inputs) -> Piece:
        piece = self._found.get(inputs)
        if piece is None:
            text = json.dumps(inputs, separators=(",", ":"))
            made_of = hashlib.sha256(text.encode()).hexdigest()[:12]
            piece = self._found[inputs] = Piece(key, start, end, inputs, made_of)
        return piece
