"""What a team writes about a source and a pipeline: small frozen types, unknown keys refused.

Each field's meaning stands on the line below it. Reading the files is `tasks.settings`.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from tasks.domain.frozen import Frozen, Length, parsed
from tasks.domain.gate import GateSpec
from tasks.domain.late import LateSpec
from tasks.domain.partition import Offset, Partition, Span, overlapping, zone_of
from tasks.domain.search import SearchSpec
from tasks.errors import PartitionKeyError

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
COLUMN_TYPES = ("string", "int", "float", "bool", "date", "timestamp", "local_timestamp")
SLICE_TYPES = ("string", "int", "bool", "date")
TEMPORAL_TYPES = ("date", "timestamp", "local_timestamp")
METRICS = ("auc", "logloss", "rmse", "mae", "mlogloss", "accuracy")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value) or len(value) > 60:
        raise ValueError(f"{value!r} is no name; expected lower-case words joined by single underscores")
    return value


def _timezone(value: Any) -> str:
    zone_of(value if isinstance(value, str) else "")
    return value


def _texts(values: Any) -> Any:
    # YAML reads an unquoted 2013-12-31 as a date
    return tuple(str(value) for value in values) if isinstance(values, list | tuple) else values


def _entity(value: Any) -> Any:
    columns = list(value) if isinstance(value, list | tuple) else []
    if not columns or not all(isinstance(column, str) for column in columns) or len(set(columns)) < len(columns):
        raise ValueError(f"expected a list of columns such as [flight_id], found {value!r}")
    return tuple(columns)


def _ahead(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(column, str) for column in value):
        raise ValueError(f"expected true, or a list of columns such as [valid_until], found {value!r}")
    return tuple(value)


def _gpus(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"expected auto or a number of GPUs, found {value!r}")
    return value


def _params(value: Any) -> Any:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"expected XGBoost's parameters by name, such as {{max_depth: 6}}, found {value!r}")
    for name, item in value.items():
        if not isinstance(item, float | int | str | bool):
            raise ValueError(f"{name}: expected a number, a text or a truth value, found {item!r}")
    return value


Name = Annotated[str, BeforeValidator(_name)]
Timezone = Annotated[str, BeforeValidator(_timezone)]
Moment = Annotated[Offset, parsed(Offset)]
ColumnType = Literal["string", "int", "float", "bool", "date", "timestamp", "local_timestamp"]


class SourceSpec(Frozen):
    """One source of deliveries: files that arrive partition by partition."""

    name: Name
    """The source's name; its tables lie at `sources/<name>/`, its DAG is `<name>__ingest`."""
    grain: Literal["hour", "day", "week", "month", "none"] = "day"
    """The interval that one delivery covers; `none` for reference data."""
    timezone: Timezone = "UTC"
    """The zone in which partitions begin and end."""
    uri: str
    """Where a delivery lands, with {partition} and, in front, {landing}."""
    available: Moment = Offset("end", 1, Span())
    """The declared moment at which a partition's delivery is known."""
    columns: dict[str, ColumnType]
    """Name and type of each column: string, int, float, bool, date, timestamp (an instant) or local_timestamp."""
    time: str | None = None
    """The column (a timestamp) that assigns a row to a pipeline's partition, where the grains differ."""
    contract: str | None = None
    """The expectation suite's file, relative to the spec."""
    start: date | None = None
    """First local day with deliveries."""
    end: date | None = None
    """Last local day with deliveries; left out when live."""
    history: date | None = None
    """Partitions that start before this local day are a historical load: known at their declared moment."""
    ahead: Annotated[bool | tuple[str, ...], BeforeValidator(_ahead)] = False
    """A plan's or a forecast's: true, or the columns whose times may lie after the moment at which a row is known."""
    manifest: str | None = None
    """A JSON file in the landing zone that maps partition keys of a historical load to known_at moments."""
    missing: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    """Partition keys for which no delivery will ever come."""
    late: LateSpec = LateSpec()
    """What becomes of the partitions that wait for a delivery that does not come."""
    format: Literal["auto", "csv", "jsonl", "parquet"] = "auto"
    """The files' format; auto takes it from the name's ending."""
    compression: Literal["auto", "none", "gzip", "zstd", "zip"] = "auto"
    """The files' compression; auto takes it from the name's ending."""
    encoding: str = "utf-8"
    """Text encoding of CSV and JSON lines."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    """What separates the fields of a CSV file."""
    decimal: Literal[".", ","] = "."
    """The decimal mark of numbers in CSV files."""
    nulls: tuple[str, ...] = ("", "NA", "NULL", "null")
    """Texts that mean a missing value in CSV files."""
    max_reject_rate: float = Field(0.05, ge=0, le=1)
    """Above this share of quarantined rows the partition is blocked."""

    @model_validator(mode="after")
    def _consistent(self) -> SourceSpec:
        if self.grain != "none" and "{partition}" not in self.uri:
            raise ValueError("uri: expected {partition} in it, since the source has a grain")
        if not self.columns:
            raise ValueError("columns: expected at least one column")
        for column in self.columns:
            if column.startswith("_") or column in ("partition_key", "revision"):
                raise ValueError(
                    f"columns: {column!r} is reserved; names with a leading underscore, partition_key and revision are Millrace's own"
                )
        if self.time is not None and self.columns.get(self.time) != "timestamp":
            raise ValueError(f"time: expected a column of type timestamp, {self.time!r} is not one")
        for column in self.ahead if isinstance(self.ahead, tuple) else ():
            if self.columns.get(column) not in TEMPORAL_TYPES:
                raise ValueError(f"ahead: expected columns of type {', '.join(TEMPORAL_TYPES)}, {column!r} is not one")
        folded = [column.lower() for column in self.columns]
        double = [column for column in self.columns if folded.count(column.lower()) > 1]
        if double:
            raise ValueError(f"columns: {' and '.join(double)} differ in case only, which SQL does not tell apart")
        if self.late.until is not None:
            self._check_late(self.late.until)
        for key in self.missing:
            try:
                Partition.parse(self.grain, self.timezone, key)
            except PartitionKeyError as error:
                raise ValueError(f"missing: {error}") from error
        return self

    def partition(self, key: str) -> Partition:
        return Partition.parse(self.grain, self.timezone, key)

    def _check_late(self, until: Offset) -> None:
        if self.grain == "none":
            raise ValueError("late: reference data has no moment at which it is late; expected a source with a grain")
        sample = Partition.on(self.grain, self.timezone, self.start or date(2024, 1, 1))
        if until.at(sample) < self.available.at(sample):
            raise ValueError(f"late.until: expected a moment at or after available, {self.available}; found {until}")

    def location(self, partition: Partition, root: str) -> str:
        """The absolute URI at which a partition's file is delivered, with the landing zone at `root`."""
        return self.uri.replace("{landing}", root).replace("{partition}", partition.key)

    def declared(self, partition: Partition) -> datetime:
        """The declared moment at which a partition is known; the beginning of time for reference data."""
        return datetime(1900, 1, 1, tzinfo=UTC) if self.grain == "none" else self.available.at(partition)

    def given_up(self, partition: Partition) -> datetime | None:
        """The moment from which a partition's delivery is given up; None where it is waited for, whatever comes."""
        if self.late.until is None or partition.key in self.missing or self.is_history(partition):
            return None
        return self.late.until.at(partition)

    def is_given_up(self, partition: Partition, now: datetime) -> bool:
        """Whether a partition's delivery is not waited for any more, should it not be there."""
        until = self.given_up(partition)
        return until is not None and until <= now

    def is_history(self, partition: Partition) -> bool:
        return self.grain == "none" or (self.history is not None and partition.local_start.date() < self.history)


class SourceUse(Frozen):
    """A source as one pipeline uses it."""

    source: SourceSpec
    """The source itself."""
    drives: bool = False
    """Whether its rows are the rows to be scored; true for exactly one."""


class LabelSpec(Frozen):
    """Where the truth comes from."""

    sql: str
    """DuckDB expression over the label source's columns."""
    source: str
    """The source that carries it."""
    matures: Length = Span()
    """How long after the label's partition is known it may still change."""
    unlabelled: str | None = None
    """DuckDB predicate: rows that will never have a label."""


class TrainSpec(Frozen):
    """When and how a challenger is trained."""

    every: Literal["day", "week", "month"] = "month"
    """One training per interval of this grain."""
    window: Length | None = None
    """How far back training data reaches before the holdout; left out, it grows."""
    min_window: Length = Span(days=30)
    """The least training data."""
    holdout: Length = Span(days=28)
    """The latest matured partitions, kept for the gate."""
    lead: Length = Span(seconds=6 * 3600)
    """From the training's knowledge cut to the moment its model may score."""
    objective: Literal["binary:logistic", "reg:squarederror", "reg:absoluteerror", "multi:softprob"]
    """XGBoost's objective."""
    rounds: int = Field(200, ge=1, le=100_000)
    """Boosting rounds."""
    params: Annotated[dict[str, float | int | str | bool], BeforeValidator(_params)] = Field(default_factory=dict)
    """XGBoost's parameters by their own names."""
    seed: int = 2013
    """Seed of everything random in a training."""
    gpus: Annotated[Literal["auto"] | int, BeforeValidator(_gpus)] = "auto"
    """GPUs to train on: a number, or those that are there."""
    way: Literal["auto", "single", "external", "cluster"] = "auto"
    """One process, one with its data in external memory, or a Dask cluster; auto chooses by size."""
    checkpoint: int = Field(20, ge=1)
    """Rounds from one checkpoint to the next."""
    search: SearchSpec | None = None
    """Parameters that are searched for before each training; what `params` says of them is tried first."""


class LeakSpec(Frozen):
    """What is looked at for leaks before a promotion."""

    partitions: int = Field(3, ge=1)
    """Partitions whose features are computed a second time, where what was not known is physically absent."""
    alone: float = Field(0.85, gt=0.5, le=1)
    """The most that one feature alone may reach: AUC for classes, R² for numbers. 1 refuses none."""


class ScoreSpec(Frozen):
    """What predictions carry besides the score."""

    reasons: int = Field(0, ge=0, le=10, strict=True)
    """Reasons of each prediction: the features that moved it most, by SHAP values; 0 for none."""


class PipelineSpec(Frozen):
    """One pipeline: one model, its features and its schedule."""

    pipeline: Name
    """The pipeline's name; also that of its registered model."""
    grain: Literal["hour", "day", "week", "month"]
    """The interval that one scoring covers."""
    timezone: Timezone
    """The zone in which partitions begin and end."""
    start: date
    """First local day."""
    end: date | None = None
    """Last local day; left out when live."""
    entity: Annotated[tuple[str, ...], BeforeValidator(_entity)]
    """The columns that name a row, unique within a partition."""
    as_of: Moment
    """The knowledge cut: nothing known later is used."""
    deadline: Moment
    """The moment by which predictions must be published."""
    lookback: Length
    """How far back before a partition's start the cut views reach."""
    sources: dict[str, SourceUse] = Field(min_length=1)
    """The sources by name."""
    label: LabelSpec
    """The label."""
    features: str = "features.sql"
    """The file with the feature SQL, relative to the spec."""
    rollups: dict[Name, Name] = Field(default_factory=dict)
    """Rollups, each with the source whose partitions it follows; the SQL of one is `rollups/<name>.sql` beside the spec."""
    train: TrainSpec
    """Training."""
    gate: GateSpec
    """Promotion."""
    leaks: LeakSpec = LeakSpec()
    """The leak check."""
    score: ScoreSpec = ScoreSpec()
    """Scoring."""
    _backtest: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _consistent(self) -> PipelineSpec:
        if "entities" in self.sources:
            raise ValueError("sources: 'entities' is the view of the rows to be scored; give the source another name")
        drivers = [name for name, use in self.sources.items() if use.drives]
        if len(drivers) != 1:
            raise ValueError(f"sources: expected exactly one with drives: true, found {', '.join(drivers) or 'none'}")
        if self.label.source not in self.sources:
            raise ValueError(f"label.source: expected one of {', '.join(self.sources)}, found {self.label.source!r}")
        for name, over in self.rollups.items():
            if name in self.sources or name == "entities":
                raise ValueError(f"rollups: {name!r} is the name of another view; give the rollup a name of its own")
            if over not in self.sources or self.sources[over].source.grain == "none":
                known = [one for one, use in self.sources.items() if use.source.grain != "none"]
                raise ValueError(
                    f"rollups.{name}: expected a source with partitions ({', '.join(known)}), found {over!r}"
                )
        driver, label = self.driver, self.sources[self.label.source].source
        for source in (driver, label):
            lacking = [column for column in self.entity if column not in source.columns]
            if lacking:
                raise ValueError(f"entity: source {source.name!r} has no column {lacking[0]!r}")
        for column in self.entity:
            kinds = (driver.columns[column], label.columns[column])
            if kinds[0] != kinds[1]:
                raise ValueError(
                    f"entity: {column!r} is {kinds[0]} in source {driver.name!r} and {kinds[1]} in source {label.name!r}; expected one type"
                )
        if driver.late.policy == "degrade":
            raise ValueError(
                f"sources.{driver.name}: it drives, and without its rows there is nothing to score; expected late.policy wait or skip"
            )
        if driver.grain == "none":
            raise ValueError("sources: reference data can't drive; expected a source with a grain")
        if driver.time is None and (driver.grain, driver.timezone) != (self.grain, self.timezone):
            raise ValueError(
                f"sources.{driver.name}.time: expected the timestamp column that assigns rows to {self.grain} partitions, since the source comes by {driver.grain} in {driver.timezone}"
            )
        if label.grain == "none":
            raise ValueError("label.source: expected a source with a grain")
        if self.end is not None and self.end < self.start:
            raise ValueError("end: expected a day on or after start")
        first = self.first
        if self.deadline.at(first) < self.as_of.at(first):
            raise ValueError("deadline: expected a moment at or after as_of")
        late = [p for p in _cover(driver, first) if driver.declared(p) > self.as_of.at(first)]
        if late:
            raise ValueError(
                f"as_of: source {driver.name!r} drives but its partition {late[0]} is available only {driver.available}, after as_of"
            )
        known = [p for p in _cover(label, first) if label.declared(p) <= self.as_of.at(first)]
        if known:
            raise ValueError(
                f"as_of: the label's source {label.name!r} is available {label.available}, so at {self.as_of} features could read the labels of their own partition; expected a moment before that"
            )
        for guard in self.gate.guards:
            kind = driver.columns.get(guard.slice)
            if kind not in SLICE_TYPES:
                found = f"{guard.slice!r} is {kind}" if kind else f"found {guard.slice!r}"
                fitting = [column for column, kind in driver.columns.items() if kind in SLICE_TYPES]
                raise ValueError(
                    f"gate.guards: expected a column of source {driver.name!r} with values to slice by ({', '.join(fitting)}), {found}"
                )
        metrics = {"binary:logistic": ("auc", "logloss", "accuracy"), "multi:softprob": ("mlogloss", "accuracy")}
        fitting = metrics.get(self.train.objective, ("rmse", "mae"))
        if self.gate.metric not in fitting:
            raise ValueError(
                f"gate.metric: expected one of {', '.join(fitting)} for {self.train.objective}, found {self.gate.metric}"
            )
        return self

    @property
    def line(self) -> str:
        """Where ledger, versions and predictions lie: the main line at the pipeline's name, a backtest's below it."""
        return line_of(self.pipeline, self._backtest)

    @property
    def model(self) -> str:
        """The registered model's name: MLflow takes neither a slash nor a dot."""
        return self.line.replace("/", "-")

    def on_backtest(self, name: str) -> PipelineSpec:
        """The same pipeline on a backtest's line; features, which depend on no model, are shared."""
        other = self.model_copy()
        other._backtest = name
        return other

    @property
    def driver(self) -> SourceSpec:
        """The source whose rows are scored."""
        return next(use.source for use in self.sources.values() if use.drives)

    @property
    def recipe(self) -> str:
        """Digest of what makes a model out of its rows: label, objective, parameters, rounds, seed, search; 12 hex digits."""
        parts = {
            "label": self.label.model_dump(mode="json", exclude={"matures"}),
            "train": self.train.model_dump(mode="json", include={"objective", "rounds", "params", "seed"}),
        }
        search = self.train.search
        if search is not None:  # only there: the recipes of trainings without one stay what they were
            last = str(search.validation or f"at most {self.train.holdout}")
            judged = {"metric": self.gate.metric, "validation": last}
            parts["search"] = search.model_dump(mode="json", include={"trials", "space"}) | judged
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def driving_time(self) -> str | None:
        """The driving source's time column, or None where one delivery is one partition."""
        same = (self.driver.grain, self.driver.timezone) == (self.grain, self.timezone)
        return None if same else self.driver.time

    @property
    def first(self) -> Partition:
        return Partition.on(self.grain, self.timezone, self.start)

    @property
    def last(self) -> Partition | None:
        """The last partition, which holds the pipeline's last day; None when live."""
        return None if self.end is None else Partition.ending(self.grain, self.timezone, self.end)

    def partition(self, key: str) -> Partition:
        return Partition.parse(self.grain, self.timezone, key)

    def training(self, key: str) -> Partition:
        """The training interval of a key, for instance `2013-11` for a monthly training."""
        return Partition.parse(self.train.every, self.timezone, key)

    def training_as_of(self, training: Partition) -> datetime:
        """The knowledge cut of a training: that of the first partition in its interval."""
        return self.as_of.at(Partition.containing(self.grain, self.timezone, training.start))

    def effective_from(self, training: Partition) -> datetime:
        """From when a training's model may score, at the earliest: its knowledge cut plus `train.lead`."""
        lead = timedelta(days=self.train.lead.days, seconds=self.train.lead.seconds)
        return self.training_as_of(training) + lead


def line_of(pipeline: str, backtest: str | None) -> str:
    """The line of a pipeline's backtest; of None, the main line."""
    return pipeline if backtest is None else f"{pipeline}/backtests/{backtest}"


def _cover(source: SourceSpec, partition: Partition) -> list[Partition]:
    return overlapping(source.grain, source.timezone, partition.start, partition.end)
