"""What `why` answers: one published prediction and all that it came from. Values only; a row's are as they lie there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.domain.results import Result


@dataclass(frozen=True)
class Published:
    """The commit that published the partition.

    Attributes:
        table, version: the predictions.
        recorded_at: wall clock, ISO-8601 UTC.
        as_of: the partition's knowledge cut; `cut` is that of the model's view, the same unless the spec's has changed.
        model_version, chosen: the version that scored; `as-of` where it was the champion at as_of, `champion` or `named`
            where it was chosen by hand.
        in_sample: whether it was trained on the partition, as the caller insisted.
        late: deliveries that came after the cut and were awaited, as `source/partition`.
        degraded: deliveries that did not come in time and that it was scored without, as `source/partition`.
        thin: whether the lookback reached back before the first delivery.
        driving, rows, quarantined: driving rows that came, of which so many were scored, so many quarantined.
        filtered: reason -> rows.
    """

    table: str
    version: int
    run_id: str
    attempt: int
    actor: str
    recorded_at: str
    as_of: str
    cut: str
    model_version: int
    chosen: str
    in_sample: bool
    late: tuple[str, ...]
    degraded: tuple[str, ...]
    thin: bool
    driving: int
    rows: int
    quarantined: int
    filtered: dict[str, int]


@dataclass(frozen=True)
class Reason:
    """A feature, its value as text (None where it is missing), and what it adds to the margin (SHAP)."""

    feature: str
    value: str | None
    contribution: float


@dataclass(frozen=True)
class Trained:
    """The version that scored, as its descriptor has it.

    Attributes:
        descriptor: the object in the lake.
        run: MLflow's run id.
        train, holdout: first and last partition of the windows.
        inputs: table -> version of the training.
        environment: see `tasks.compute.same.environment`; empty for a version of an older release.
    """

    version: int
    digest: str
    view: str
    descriptor: str
    run: str
    training: str
    as_of: str
    train: tuple[str, ...]
    holdout: tuple[str, ...]
    rows: int
    rounds: int
    objective: str
    device: str
    way: str
    inputs: dict[str, int]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Promotion:
    """The ledger event that made the version champion.

    Attributes:
        event: its object in the lake; `number` and `digest` are its own.
        recorded_at: wall clock; `effective_from`: data time; ISO-8601.
        evidence: digest of what the gate saw, which lies at `evidence_at`; `seen` is what it holds.
    """

    event: str
    number: int
    digest: str
    verdict: str
    actor: str
    run_id: str
    reason: str
    training: str
    recorded_at: str
    effective_from: str
    evidence: str
    evidence_at: str
    seen: dict[str, Any] | None


@dataclass(frozen=True)
class Judged:
    """One source partition that the cut saw, and what its contract said of it.

    Attributes:
        known_at: ISO-8601; `file_digest`: SHA-256 of what was delivered.
        suite: digest of the expectation suite; empty without a contract.
        docs: the Data Docs page in the lake; empty where none was written.
        statistics: of the expectations.
    """

    source: str
    key: str
    revision: int
    known_at: str
    file_digest: str
    status: str
    rows_in: int
    clean: int
    quarantined: int
    reason: str
    suite: str
    docs: str
    statistics: dict[str, Any]


@dataclass(frozen=True)
class WhyResult(Result):
    """`why`: a prediction, its features, its reasons and its provenance.

    Attributes:
        prediction: the row, without its reasons.
        features: of the row, at the version that was scored; None where they are no longer kept.
        reasons_from: whether they are stored with the prediction or were computed now.
        snapshots: table -> version of all that was read.
        notes: what is no longer as it was, or can't be told.
    """

    pipeline: str
    partition: str
    entity: dict[str, str]
    prediction: dict[str, Any]
    published: Published
    features: dict[str, Any] | None
    features_table: str
    reasons: tuple[Reason, ...]
    reasons_from: str
    model: Trained
    promotion: Promotion | None
    snapshots: dict[str, int]
    validations: tuple[Judged, ...]
    notes: tuple[str, ...]
