"""What one step hands to the next: small, frozen, JSON. Frames never cross a task boundary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

from tasks.domain.estimate import Estimate, Measured
from tasks.domain.evidence import Decision, Evidence
from tasks.domain.promotion import ModelRef
from tasks.domain.rebuilt import plain, rebuilt

Chosen = Literal["as-of", "champion", "named"]
Data = Literal["as-known", "corrected"]
"""What a partition is computed from: what was known at its cut, or today's revisions of the same partitions."""


class Result:
    """Base: to and from JSON values by field names."""

    def to_dict(self) -> dict[str, Any]:
        return plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return rebuilt(cls, values)


@dataclass(frozen=True)
class Landed(Result):
    """One source partition after landing: status landed, duplicate (this digest is there), declared missing, or absent.

    Absent is what was given up: a revision without rows says that no file came in time.
    """

    key: str
    revision: int
    rows: int
    digest: str
    known_at: str
    status: str


@dataclass(frozen=True)
class IngestResult(Result):
    """`ingest`: files of a source -> raw@version."""

    source: str
    version: int
    partitions: tuple[Landed, ...]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Validated(Result):
    """One source partition after its contract: rows_in = clean + quarantined.

    Status published, unchanged (it was clean), blocked, or superseded (somebody else judged it meanwhile).
    """

    key: str
    revision: int
    rows_in: int
    clean: int
    quarantined: int
    status: str
    reason: str = ""
    docs: str = ""


@dataclass(frozen=True)
class ValidateResult(Result):
    """`validate`: raw -> quarantine@version, then clean@version."""

    source: str
    clean_version: int
    quarantine_version: int
    partitions: tuple[Validated, ...]


@dataclass(frozen=True)
class PinnedPartition(Result):
    """A pipeline partition that is due: its as_of, its champion, and which inputs were late or thin."""

    key: str
    as_of: str
    model: ModelRef
    late: tuple[str, ...] = ()
    thin: bool = False
    cut: str = ""
    """The knowledge cut of the champion's view: another than as_of where the spec's has changed since."""
    chosen: Chosen = "as-of"
    """How the model was chosen: the champion at as_of, the newest `champion` whatever the day, or `named`."""
    in_sample: bool = False
    """Whether the model was trained on this partition."""
    restated: tuple[str, ...] = ()
    """What corrected data differs in from what was known, as `source/partition@revision`."""
    degraded: tuple[str, ...] = ()
    """Deliveries that were given up, and that it is scored without, as `source/partition`."""


@dataclass(frozen=True)
class Skipped(Result):
    """A pipeline partition that is not due, and why (published, no champion)."""

    key: str
    reason: str


@dataclass(frozen=True)
class PinResult(Result):
    """`pin`: what is scored, with which champion, from which snapshots; resolved once, passed by value."""

    pipeline: str
    partitions: tuple[PinnedPartition, ...]
    skipped: tuple[Skipped, ...]
    snapshots: dict[str, int]
    data: Data = "as-known"


@dataclass(frozen=True)
class Planned(Result):
    """One partition of a plan.

    Attributes:
        key: partition key.
        due: whether a run would publish it now.
        why: the reason, in words.
        version: of the model that would score it, or that scored it; None where there is none.
        rows: of the driving source that it holds, as they are clean; None where none are, or where deliveries of
            another grain hold them.
        size: bytes of the data files that hold these rows.
    """

    key: str
    due: bool
    why: str
    version: int | None = None
    rows: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class PlanResult(Result):
    """`plan`: what a run over a range would do now, and why; nothing is done."""

    pipeline: str
    model: str
    partitions: tuple[Planned, ...]
    estimate: Estimate | None = None
    """Of what is due; None where nothing is, or no earlier run tells."""
    measured: Measured | None = None
    """Of what is published: the runs' time against what a plan before them said; None where none was measured."""

    @property
    def due(self) -> tuple[Planned, ...]:
        return tuple(one for one in self.partitions if one.due)


@dataclass(frozen=True)
class TrainingPin(Result):
    """`pin_training`: windows, snapshots and champion of one training."""

    pipeline: str
    training: str
    as_of: str
    train: tuple[str, str]
    holdout: tuple[str, str]
    view: str
    champion: ModelRef | None
    events: int
    snapshots: dict[str, int]
    done: int | None = None
    """Number of the ledger event that already judged this training, or None."""


@dataclass(frozen=True)
class Featurized(Result):
    """One pipeline partition's features: rows of the driving source in, rows out; the rest was filtered by the SQL."""

    key: str
    entities: int
    rows: int


@dataclass(frozen=True)
class FeaturizeResult(Result):
    """`featurize`: features@version for each view."""

    pipeline: str
    versions: dict[str, int]
    """Table name -> version."""
    partitions: tuple[Featurized, ...]
    computed: int
    seconds: float = field(default=0.0, compare=False)
    """That it took."""


@dataclass(frozen=True)
class TrainResult(Result):
    """`train`: a registered challenger."""

    pipeline: str
    training: str
    model: ModelRef
    run: str
    rows: int
    rounds: int
    seconds: float
    device: str
    reused: bool


@dataclass(frozen=True)
class EvaluateResult(Result):
    """`evaluate`: the evidence, its digest, and what the policy makes of it."""

    pipeline: str
    training: str
    digest: str
    evidence: Evidence
    decision: Decision


@dataclass(frozen=True)
class ApproveResult(Result):
    """`approve`: a person's answer about one piece of evidence, where the gate asks for one."""

    pipeline: str
    training: str
    evidence: str
    """Digest of the evidence that the person was asked about."""
    approved: bool
    by: str
    at: str
    """When, as ISO text."""
    reason: str = ""


@dataclass(frozen=True)
class PromoteResult(Result):
    """`promote`: the ledger event, the champion after it, and whether MLflow's alias follows."""

    pipeline: str
    number: int
    verdict: str
    promoted: bool
    champion: int | None
    effective_from: str
    reason: str
    alias: str


@dataclass(frozen=True)
class RollbackResult(Result):
    """`rollback`: the version taken back, who is champion since, and the partitions that the bad one scored."""

    pipeline: str
    number: int
    version: int
    champion: int | None
    effective_from: str
    repair: bool
    reason: str
    scored: tuple[str, ...]
    """Partitions whose published predictions were the bad version's when this was asked."""
    resumed: bool = False
    """Whether an earlier call recorded it, so that this one only finishes what is left."""
    repaired: tuple[str, ...] = ()
    """Of these, what is scored again and published."""
    corrected: tuple[str, ...] = ()
    """Of the repaired, those from corrected data: they were published from it, and keep it."""
    left: tuple[Skipped, ...] = ()
    """What a repair could not score again, and why."""
    alias: str = ""


@dataclass(frozen=True)
class Scored(Result):
    """One published partition; driving = rows + quarantined + filtered. Status published or superseded."""

    key: str
    driving: int
    rows: int
    quarantined: int
    filtered: int
    model_version: int
    status: str


@dataclass(frozen=True)
class ScoreResult(Result):
    """`score`: predictions@version, and the partitions that were not due."""

    pipeline: str
    version: int
    partitions: tuple[Scored, ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Judged(Result):
    """One training of a walk-forward: the champion after it; verdict empty where there was too little history."""

    training: str
    champion: int | None
    verdict: str
    promoted: bool
    reason: str


@dataclass(frozen=True)
class BacktestResult(Result):
    """`backtest`: what a walk-forward trained and published; a second one finds all of it done."""

    pipeline: str
    backtest: str | None
    """Its name; None on the main line."""
    first: str
    last: str
    trainings: tuple[Judged, ...]
    partitions: int
    published: int
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True)
class Performance(Result):
    """One policy's realised metric over some rows, its interval, and how the gated line compares with it.

    Attributes:
        policy: gated (what was published), refit (each training's model from when it could score), frozen (the
            first champion for ever) or constant (its training data's).
        value, low, high: the metric, with an interval by whole days, or partitions where those are longer.
        gain, gain_low, gain_high: how much better the gated line is on the same rows; positive is better.
        says: ahead or behind, of the gated line, where that interval says so; else empty.

    None is what the rows don't tell: the AUC of one class, the interval of a single day.
    """

    policy: str
    value: float | None
    low: float | None
    high: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    says: str


@dataclass(frozen=True)
class Period(Result):
    """The realised performance over a month, of a version, or over all: labelled rows alone."""

    name: str
    partitions: int
    rows: int
    versions: tuple[int, ...]
    """That scored the published predictions."""
    policies: tuple[Performance, ...]
    """Gated alone where no version was ever champion."""


@dataclass(frozen=True)
class ReportResult(Result):
    """`report`: realised performance, by month, by version and over all."""

    pipeline: str
    line: str
    metric: str
    confidence: float
    first: str
    last: str
    published: int
    """Partitions of the range that are published."""
    in_sample: dict[str, int]
    """Of these, what no policy is judged by: `version 3 (frozen)`, the model that was trained on them -> partitions."""
    unlabelled: dict[str, int]
    """Rows without a usable label, by reason."""
    months: tuple[Period, ...]
    versions: tuple[Period, ...]
    total: Period | None


@dataclass(frozen=True)
class MaintainedTable(Result):
    """One table after maintenance, or what would be done to it: sizes are bytes of data files."""

    table: str
    version: int = -1
    files: int = 0
    size: int = 0
    compacted: int = 0
    """Partitions that were written again, the same rows in fewer files."""
    saved: int = 0
    """Files that they lie in fewer."""
    left: int = 0
    """Partitions that were not, since somebody else wrote them meanwhile."""
    deleted: int = 0
    """Data files that no retained version names."""
    freed: int = 0
    checkpoint: int = -1
    """Version of the newest checkpoint."""
    thinned: int = 0
    """Old checkpoints that were deleted."""
    problem: str = ""


@dataclass(frozen=True)
class MaintainResult(Result):
    """`maintain`: tables whose files are few, of which superseded ones are gone; rows and entries as they were.

    Attributes:
        unfinished: writes of single objects that killed writers began, of which nothing is left.
        trainings: files of trainings that ended badly, likewise.
    """

    tables: tuple[MaintainedTable, ...]
    dry_run: bool = False
    unfinished: int = 0
    trainings: int = 0
