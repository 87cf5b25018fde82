"""The lake at one root: its objects, tables, ledgers and models."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from tasks.errors import DigestError
from tasks.lake.ledger import Ledger
from tasks.lake.objects import open_store
from tasks.lake.table import Table

if TYPE_CHECKING:
    from tasks.settings import Settings


class Lake:
    """Everything below `settings.lake_uri`; nothing is read or made until it is asked for.

    Attributes:
        uri: the root, an absolute folder or `s3://bucket/prefix`.
        objects: its bytes by key.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.uri = settings.lake_uri.rstrip("/")
        self.objects = open_store(self.uri, settings)
        self._tables: dict[str, Table] = {}

    def table(self, name: str) -> Table:
        """The Delta table at a path such as `sources/weather/clean`; it need not exist yet. Its commits are read once."""
        if name not in self._tables:
            self._tables[name] = Table(name, uri=f"{self.uri}/{name}", store=self.objects, settings=self._settings)
        return self._tables[name]

    def ledger(self, line: str) -> Ledger:
        """The champion ledger of a pipeline's main line, or of a backtest's."""
        return Ledger(self.objects, line)

    def backtests(self, pipeline: str) -> tuple[str, ...]:
        """Names of the backtests of a pipeline whose ledger was begun, in order."""
        prefix = f"ledger/{pipeline}/backtests/"
        keys = (info.key.removeprefix(prefix) for info in self.objects.list(prefix))
        return tuple(sorted({key.partition("/")[0] for key in keys}))

    def put_model(self, data: bytes) -> str:
        """Stores a model's bytes under their digest.

        Returns:
            The SHA-256, as 64 hexadecimal digits.
        """
        digest = hashlib.sha256(data).hexdigest()
        self.objects.put_if_absent(f"models/{digest}.ubj", data)
        return digest

    def get_model(self, digest: str) -> bytes:
        """A model's bytes, checked.

        Raises:
            DigestError: the bytes are not those of the digest.
            FileNotFoundError: there is no such model.
        """
        data = self.objects.get(f"models/{digest}.ubj")
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise DigestError(
                f"models/{digest}.ubj holds other bytes, of digest {found}", hint="restore it from MLflow's copy"
            )
        return data

    def drop_state(self) -> None:
        """Deletes the derived state index of every table; it is rebuilt when next needed."""
        self._tables.clear()
        shutil.rmtree(self._settings.home / "cache" / "state", ignore_errors=True)
