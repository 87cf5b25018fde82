"""Some partitions of a range, as one worker does them: features, then predictions, through the verbs themselves.

What a part needs travels by value. Secrets don't: a worker reaches S3 with its own environment's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.compute.chunks import Desk
from tasks.domain.partition import Partition
from tasks.domain.results import FeaturizeResult, PinResult, ScoreResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.lake import Lake, open_lake
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.spans import Joined, Span, Window


@dataclass(frozen=True)
class LakeAt:
    """Where the lake is; all of the settings that a worker is told."""

    uri: str
    s3_endpoint: str | None
    s3_region: str
    s3_timeout: float
    history_days: float

    @classmethod
    def of(cls, settings: Settings) -> LakeAt:
        server = (settings.s3_endpoint, settings.s3_region, settings.s3_timeout)
        return cls(settings.lake_uri, *server, settings.history_days)

    def open(self, home: Path) -> Lake:
        """The lake, from a worker.

        Args:
            home: for its index and what waits to be uploaded.
        """
        server = {name: getattr(self, name) for name in ("s3_endpoint", "s3_region", "s3_timeout")}
        return open_lake(Settings(home=home, lake=self.uri, history_days=self.history_days, **server))

    def holds(self, key: str, home: Path) -> bool:
        """Whether an object is there: another lake of the same name does not have it."""
        return self.open(home).objects.exists(key)


@dataclass(frozen=True)
class Part:
    """What one chunk is about.

    Attributes:
        partitions: in order.
        views: view id -> keys of the partitions that need it.
        snapshots: from the pin.
        run: the whole call's, so that a part that is done again finds its own commits.
        feature_rows: see `featurize`.
        pin: these partitions' part of it; None to compute features alone.
        features: where the features lie already; None to compute them.
        batch_rows: see `score`.
    """

    spec: PipelineSpec
    partitions: tuple[Partition, ...]
    views: dict[str, list[str]]
    snapshots: dict[str, int]
    lake: LakeAt
    run: RunRef
    feature_rows: int
    pin: PinResult | None = None
    features: FeaturizeResult | None = None
    batch_rows: int = 1


def featurize_part(part: Part, desk: Desk) -> FeaturizeResult:
    """The features of a part, committed."""
    from tasks.featurize import featurize
    from tasks.sql.session import sql_memory

    threads = min(desk.threads, len(part.partitions))
    return featurize(
        spec=part.spec,
        partitions=part.partitions,
        views=part.views,
        snapshots=part.snapshots,
        lake=part.lake.open(desk.folder),
        run=part.run,
        threads=threads,
        rows_at_a_time=part.feature_rows,
        progress=lambda done, total: desk.check(),
        memory_limit=sql_memory(desk.memory, threads),
        data=part.pin.data if part.pin else "as-known",
    )


def score_part(part: Part, desk: Desk) -> ScoreResult:
    """The predictions of a part, committed; all of its partitions superseded is no error here."""
    from tasks.score import score

    features = part.features or featurize_part(part, desk)
    # Predictions once begun are published, wanted or not: they are what was pinned, or superseded.
    desk.check()
    return score(
        spec=part.spec,
        pin=part.pin,
        features=features,
        lake=part.lake.open(desk.folder),
        run=part.run,
        threads=desk.threads,
        batch_rows=part.batch_rows,
        part=True,
    )


@dataclass(frozen=True)
class SpanPart:
    """A span of a training's window, as one worker joins it.

    Attributes:
        folder: of the lake, for the rows.
    """

    window: Window
    span: Span
    lake: LakeAt
    folder: str


def join_part(part: SpanPart, desk: Desk) -> Joined:
    """The labelled rows of a span, in the lake."""
    from tasks.compute.scratch import scratch
    from tasks.spans import join_span
    from tasks.sql.session import sql_memory

    lake = part.lake.open(desk.folder)
    with scratch(desk.folder / "join") as folder:
        joined = join_span(part.window, part.span, lake, folder, memory_limit=sql_memory(desk.memory, 1))
        if joined.file is None:
            return joined
        desk.check()
        name = f"{part.folder}/{part.span.file}"  # the same inputs give the same file, whoever puts it
        lake.objects.put_file(name, Path(joined.file))
        return joined.at(name)
