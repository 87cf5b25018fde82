"""What a team writes about a source: where its files land, when, how they are read, and what is held against them.

Each field's meaning stands on the line below it. Reading the files is `tasks.settings`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tasks.domain.frozen import Frozen, parsed
from tasks.domain.partition import Offset, Partition, Span, zone_of
from tasks.errors import PartitionKeyError

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
COLUMN_TYPES = ("string", "int", "float", "bool", "date", "timestamp", "local_timestamp")
TEMPORAL_TYPES = ("date", "timestamp", "local_timestamp")


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


def _ahead(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(column, str) for column in value):
        raise ValueError(f"expected true, or a list of columns such as [valid_until], found {value!r}")
    return tuple(value)


Name = Annotated[str, BeforeValidator(_name)]
Timezone = Annotated[str, BeforeValidator(_timezone)]
Moment = Annotated[Offset, parsed(Offset)]
ColumnType = Literal["string", "int", "float", "bool", "date", "timestamp", "local_timestamp"]


class LateSpec(Frozen):
    """What becomes of the partitions that wait for a delivery."""

    policy: Literal["wait", "skip", "degrade"] = "wait"
    """`wait` for it; `skip` leaves out the partitions that were the first to wait for it; `degrade` scores without it."""
    until: Moment | None = None
    """The moment after which a delivery is given up; with skip and degrade."""

    @model_validator(mode="after")
    def _consistent(self) -> LateSpec:
        if (self.policy == "wait") != (self.until is None):
            raise ValueError(
                "until: expected with skip and degrade alone, such as {policy: degrade, until: end+6h}"
                if self.policy == "wait"
                else f"until: expected the moment after which a delivery is given up, such as end+6h, since policy is {self.policy}"
            )
        return self


class SourceSpec(Frozen):
    """One source of deliveries: files that arrive partition by partition."""

    name: Name
    """The source's name; its tables lie at `sources/<name>/`, its DAG is `<name>__ingest`."""
    grain: Literal["hour", "day", "week", "month", "none"] = "day"
    """The interval that one delivery covers; `none` for reference data."""
    timezone: Timezone = "UTC"
    """The zone in which partitions begin and end."""
    uri: str
    """Where a delivery lands, with {partition} and, in front, {landing}; with * where it is several files."""
    complete: str | None = None
    """A file that is put last: until it is there, a delivery has not come. With * in uri."""
    receipt: str | None = None
    """The ending of a file beside each one, put after it, with its size in bytes or its SHA-256 or MD5: .sha256."""
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
    renamed: dict[str, Annotated[tuple[str, ...], BeforeValidator(_texts)]] = Field(default_factory=dict)
    """Other names under which a column may come, by column: {amount: [total, amount_usd]}."""
    undeclared: Literal["ignore", "refuse"] = "ignore"
    """Columns that a file has and nobody declared: said and ignored, or a reason to refuse it."""
    encoding: str = "utf-8"
    """Text encoding of CSV and JSON lines; auto tells it from the bytes, and says what it took."""
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
        if "*" in self.uri and self.complete is None:
            raise ValueError(
                "complete: expected the file that is put last, such as {landing}/orders/{partition}/_SUCCESS, since uri has a *: nothing else tells when all are there"
            )
        if self.receipt is not None and not re.fullmatch(r"\.[\w.]+", self.receipt):
            raise ValueError(f"receipt: expected an ending such as .sha256, found {self.receipt!r}")
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
        self._check_renamed()
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

    def _check_renamed(self) -> None:
        others = [name for names in self.renamed.values() for name in names]
        for column in self.renamed:
            if column not in self.columns:
                raise ValueError(f"renamed: {column!r} is not one of the columns; expected {{column: [other names]}}")
        for name in others:
            if name in self.columns or others.count(name) > 1:
                raise ValueError(f"renamed: {name!r} stands for two columns; expected names that are nothing else")

    def _check_late(self, until: Offset) -> None:
        if self.grain == "none":
            raise ValueError("late: reference data has no moment at which it is late; expected a source with a grain")
        sample = Partition.on(self.grain, self.timezone, self.start or date(2024, 1, 1))
        if until.at(sample) < self.available.at(sample):
            raise ValueError(f"late.until: expected a moment at or after available, {self.available}; found {until}")

    def location(self, partition: Partition, root: str) -> str:
        """The absolute URI at which a partition's file is delivered, with the landing zone at `root`."""
        return _at(self.uri, partition, root)

    def mark(self, partition: Partition, root: str) -> str | None:
        """The absolute URI of the file that is put last, where there is one."""
        return None if self.complete is None else _at(self.complete, partition, root)

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


def _at(uri: str, partition: Partition, root: str) -> str:
    return uri.replace("{landing}", root).replace("{partition}", partition.key)
