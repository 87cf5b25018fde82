"""What was set aside by contracts, and what became of it after a fix."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.domain.results import Result


@dataclass(frozen=True)
class Failing(Result):
    """Rows of a delivery that failed one expectation on one column first."""

    expectation: str
    column: str
    rows: int


@dataclass(frozen=True)
class SetAside(Result):
    """The newest delivery of a source partition, where rows of it are quarantined or where it is blocked.

    Attributes:
        rows: that were delivered.
        quarantined: of these.
        reason: why it is blocked; empty where it is not.
        failing: the quarantined rows by what they failed.
        docs: key of its Data Docs page in the lake; empty where there is none.
    """

    source: str
    key: str
    revision: int
    rows: int
    quarantined: int
    blocked: bool
    reason: str
    failing: tuple[Failing, ...]
    docs: str


@dataclass(frozen=True)
class BadRow(Result):
    """One quarantined row: where it stood, and what it failed.

    Attributes:
        line: of the file, 1-based.
        value: as text; None where it was missing.
    """

    source: str
    key: str
    revision: int
    file: str
    line: int
    expectation: str
    column: str
    value: str | None


@dataclass(frozen=True)
class QuarantineResult(Result):
    """`quarantine`: what is set aside now, and some of its rows."""

    name: str
    set_aside: tuple[SetAside, ...]
    rows: tuple[BadRow, ...] = ()


@dataclass(frozen=True)
class Replayed(Result):
    """One source partition under the contract of today.

    Attributes:
        status: `replayed`: landed again, as a revision that is judged by the contract of today; `same`: no row
            would come back; `blocked`: it would block what is published; `unchanged`: nothing was set aside, these
            very rules did it, or it is not published, so that it is judged anew anyhow.
        revision: the newest, after it.
        back: rows that were set aside and pass now.
        gone: rows that passed and are set aside now.
        reason: why it would be blocked.
    """

    key: str
    status: str
    revision: int
    back: int = 0
    gone: int = 0
    reason: str = ""


@dataclass(frozen=True)
class ReplayResult(Result):
    """`replay`: raw revisions landed again -> raw@version."""

    source: str
    version: int
    partitions: tuple[Replayed, ...]


@dataclass(frozen=True)
class Came(Result):
    """A delivery that became clean in a replay.

    Attributes:
        rows: that are clean.
        back, gone: of a delivery that was landed again, what passes now and did not, and the reverse.
    """

    source: str
    key: str
    revision: int
    rows: int
    back: int = 0
    gone: int = 0


@dataclass(frozen=True)
class ReplayReport(Result):
    """`millrace replay`: what became clean, what is published since, and what else reads it.

    Attributes:
        came: deliveries that are clean now and were not.
        published: partitions of the pipeline that were published from what was known.
        restated: published partitions that were published again, from corrected data.
        left: partitions that were left alone, and why; not those that were published before.
        dependants: other published partitions that what came back would change.
        between: the first and the last local day of these.
        problems: what stands in the way still.
    """

    name: str
    came: tuple[Came, ...]
    published: tuple[str, ...] = ()
    restated: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    dependants: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
