"""Objects in a folder whose writer is killed once, by SIGKILL, before or after it puts a certain one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tasks.lake.objects import FolderStore


class KillingStore(FolderStore):
    """Travels by pickle into the process that is to die.

    Args:
        root: the folder.
        name: the end of the key.
        moment: before or after the object lies there.
    """

    def __init__(self, root: Path, name: str, moment: str) -> None:
        super().__init__(root / "objects")
        self.name, self.moment, self.killed = name, moment, root / "killed"

    def put_if_absent(self, key: str, data: bytes) -> bool:
        due = key.endswith(self.name) and not self.killed.exists()
        if due:
            self.killed.touch()
        if due and self.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        put = super().put_if_absent(key, data)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return put
