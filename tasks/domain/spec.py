"""What a team writes about a pipeline: small frozen types, unknown keys refused.

Each field's meaning stands on the line below it. Reading the files is `tasks.settings`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from tasks.domain.frozen import Frozen, Length
from tasks.domain.gate import GateSpec
from tasks.domain.partition import Partition, Span, overlapping
from tasks.domain.search import SearchSpec
from tasks.domain.source import Moment, Name, SourceSpec, Timezone

SLICE_TYPES = ("string", "int", "bool", "date")
METRICS = ("auc", "logloss", "rmse", "mae", "mlogloss", "accuracy")


def _entity(value: Any) -> Any:
    columns = list(value) if isinstance(value, list | tuple) else []
    if not columns or not all(isinstance(column, str) for column in columns) or len(set(columns)) < len(columns):
        raise ValueError(f"expected a list of columns such as [flight_id], found {value!r}")
    return tuple(columns)


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
