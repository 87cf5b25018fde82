"""The project's errors: one base, and whether a retry may help.

An error says what went wrong, where, and what to do next. `Terminal` errors come back the same
however often the step is run again; `Transient` ones may pass by themselves, so a scheduler
should retry them. Every error pickles and keeps its attributes.
"""

from __future__ import annotations


class MillraceError(Exception):
    """Base of all errors that Millrace raises on purpose.

    Attributes:
        message: what went wrong and where, in one sentence.
        hint: what to do next, or an empty string.
    """

    retry = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self):
        return _rebuild, (type(self), self.__dict__.copy())


def _rebuild(kind: type[MillraceError], state: dict) -> MillraceError:
    error = kind.__new__(kind)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


class Terminal(MillraceError):
    """A retry is useless: the input, the configuration or the code must change."""


class Transient(MillraceError):
    """A retry may help: a service or a resource was not there."""

    retry = True


class SpecError(Terminal):
    """A configuration file is wrong: names the file, the key and what was expected."""


class PartitionKeyError(Terminal):
    """A partition key is not one of the grain's."""


class SqlError(Terminal):
    """A SQL text is refused, or fails on its data."""


class FileError(Terminal):
    """A delivered file can't be read: names the file, the line and the column.

    Attributes:
        uri: the file.
        line: 1-based line (or row, for Parquet), or None.
        column: the column's name, or None.
    """

    def __init__(
        self, message: str, *, uri: str, line: int | None = None, column: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.uri = uri
        self.line = line
        self.column = column


class ContractError(Terminal):
    """A partition breaks its contract beyond the declared limit: it is blocked, nothing of it is published."""


class LeakError(Terminal):
    """Features know what was not known yet, or the label itself: nothing is promoted.

    Attributes:
        leaks: each found leak in a sentence.
    """

    def __init__(self, message: str, *, leaks: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.leaks = leaks


class PopulationError(Terminal):
    """Rows in are not rows scored + quarantined + filtered: the write is refused."""


class SupersededError(Terminal):
    """Somebody else wrote the same partition since it was pinned: this attempt's result is not needed."""


class StorageError(Transient):
    """The lake or the landing zone did not answer as it should."""


class VacuumedError(StorageError):
    """A partition's rows at an earlier version are no longer kept: they were replaced, and the retention is over.

    Attributes:
        table, version: what was to be read.
        replaced: when the rows were replaced; an ISO-8601 text, empty where another tool did it.
        vacuumed: when a vacuum last set the table's mark; the rows went with it, or with one before or after.
    """

    retry = False

    def __init__(
        self,
        message: str,
        *,
        table: str = "",
        version: int = -1,
        replaced: str = "",
        vacuumed: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.table = table
        self.version = version
        self.replaced = replaced
        self.vacuumed = vacuumed


class UnsafeStoreError(Terminal):
    """The object store accepts two writers for one key: Delta commits would be lost on it."""


class DigestError(Terminal):
    """Bytes read are not the bytes that the digest names."""


class LedgerConflictError(Transient):
    """The champion ledger has gone on: what was decided is about another champion, and must be decided anew."""


class ApprovalNeededError(Terminal):
    """A challenger would be promoted, and the gate wants a person's approval, which is not there."""


class NotFoundError(Terminal):
    """What was asked about is not there: says what, and where it went or what would make it."""


class ReproductionError(Terminal):
    """A version can't be trained again: its data is no longer kept, or what it was trained by is not known."""


class NotReadyError(Transient):
    """Inputs of a partition are still expected.

    Attributes:
        missing: what is waited for, as `source/partition` texts.
    """

    def __init__(self, message: str, *, missing: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


class TrainingError(Terminal):
    """The training data can't make a model: too few rows, one class, a column without values."""


class ClusterError(Transient):
    """The Dask cluster did not start, or was lost."""


class MemoryShortError(ClusterError):
    """A process that trained was killed as the system kills for memory, or got none. The next attempt takes less."""


class PeerLostError(ClusterError):
    """A process of a training says that another one of it is gone; why that one went, it can't know."""


class NoPlaceError(ClusterError):
    """No place to train came up: no GPU became free, or too few are there. The step does not try again by itself."""


class RegistryError(Transient):
    """MLflow did not answer as it should."""


class ServiceError(Transient):
    """An embedded service (PostgreSQL, MLflow, Airflow) did not start or stopped."""


class UsageError(Terminal):
    """The command's words are off; the command line ends with 2."""
