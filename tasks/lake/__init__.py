"""The lake: Delta tables, objects and the champion ledger, in a folder or on S3.

The sole owner of deltalake and boto3. Read from top to bottom:

- `objects`: `ObjectStore`, a few operations on named bytes; a folder's store, one by absolute URI.
- `s3`: the same on S3. `credentials`: one credential, rendered for boto3 and for delta-rs.
- `store_check`: refuses a store on which two writers can win the same key.
- `log`: a Delta table's commits, read as JSON; `state`: the derived index over them.
- `table`: `Table`, snapshots in and one way to write; `publish`: that way, with the fence against
  zombies; `staging`: the Parquet files of one write while no commit names them, `datafiles` writes
  them; `delta`: all that goes through delta-rs; `schema`: column types as Arrow types.
- `compact`: partitions written again in fewer files; `vacuum`: data files deleted that no retained version
  names, and what earlier versions say then; `checkpoints`: beside the log, so that opening takes no longer with age.
- `racing`: several partitions, of which others may write some first; `deliveries`: the revisions that
  a clean table's commits tell of.
- `ledger`: numbered, chained events. `lake`: `Lake`, which ties them to one root.

Importing this package imports neither deltalake nor boto3 nor pyarrow: what only looks at state
(a pin, a status) never does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.lake.lake import Lake
from tasks.lake.log import Commit, Entry
from tasks.lake.objects import ObjectInfo, ObjectStore, UriStore
from tasks.lake.store_check import check_store

if TYPE_CHECKING:
    from tasks.settings import Settings

__all__ = ["Commit", "Entry", "Lake", "ObjectInfo", "ObjectStore", "check_store", "open_lake", "open_landing"]


def open_lake(settings: Settings) -> Lake:
    """The lake at `settings.lake_uri`; touches nothing yet."""
    return Lake(settings)


def open_landing(settings: Settings) -> ObjectStore:
    """Delivered files by absolute URI (`/folder/file` or `s3://bucket/key`); touches nothing yet."""
    return UriStore(settings)
