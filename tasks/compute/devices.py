"""The GPUs of this host: how many XGBoost can use, how much of their memory is free, who holds them.

XGBoost with `device="cuda"` on a machine without a GPU trains on the CPU and only warns, so devices
are counted here and the booster is asked afterwards (`tasks.compute.train`).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tasks.errors import NoPlaceError

Device = Literal["cpu", "cuda"]

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Gpu:
    """A GPU of this host.

    Attributes:
        uuid: NVIDIA's name of it, also good for CUDA_VISIBLE_DEVICES.
        free: bytes of its memory that nobody uses.
    """

    uuid: str
    free: int


def find_gpus() -> tuple[list[Gpu], str]:
    """(GPUs that XGBoost can use in this process, why there is none).

    Opens no CUDA context, so that a worker process can still choose its device, and does not import XGBoost, which
    takes a second or two in a process that only chooses a place.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not _named(visible):
        return [], "CUDA_VISIBLE_DEVICES hides every GPU"
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [], f"no NVIDIA driver ({error})"
    try:
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            with suppress(pynvml.NVMLError):  # one that has failed is not there
                one = pynvml.nvmlDeviceGetHandleByIndex(index)
                found.append(Gpu(_text(pynvml.nvmlDeviceGetUUID(one)), pynvml.nvmlDeviceGetMemoryInfo(one).free))
    finally:
        pynvml.nvmlShutdown()
    if visible is not None:
        # by index, or by a UUID or its beginning, as CUDA reads them
        found = [
            gpu
            for name in _named(visible)
            for index, gpu in enumerate(found)
            if name == str(index) or (not name.isdigit() and gpu.uuid.startswith(name))
        ]
    if not found:
        return [], "the NVIDIA driver sees no GPU"
    return (found, "") if built_with_cuda() else ([], "this XGBoost was built without CUDA")


def built_with_cuda() -> bool:
    """Whether the installed XGBoost was; asked by its library's own call, without the package's imports."""
    package = find_spec("xgboost")
    library = Path(*package.submodule_search_locations) / "lib" / "libxgboost.so"
    if not library.exists():  # a build that lies elsewhere: the package knows where
        import xgboost

        return bool(xgboost.build_info().get("USE_CUDA"))
    told = ctypes.c_char_p()
    ctypes.CDLL(str(library)).XGBuildInfo(ctypes.byref(told))
    return bool(json.loads(told.value).get("USE_CUDA"))


class HeldGpus:
    """GPUs that this process holds, by UUID, until it gives them back or ends."""

    def __init__(self, locks: dict[str, int]) -> None:
        self._locks = locks

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._locks)

    def keep(self, count: int) -> tuple[str, ...]:
        """Give back all but the first `count`."""
        for name in self.names[count:]:
            os.close(self._locks.pop(name))
        return self.names


@contextmanager
def hold_gpus(
    names: Sequence[str],
    least: int,
    *,
    patience: float,
    say: Callable[[str], None] = lambda text: None,
    folder: Path | None = None,
) -> Iterator[HeldGpus]:
    """Hold those of the GPUs `names` that are free for the length of a `with` block: no two processes hold one.

    A lock is a file lock, so the system frees it when its process dies. `least` are taken at once or none,
    so two that want several never wait for each other. Limitation: containers that do not share the
    lock files' folder do not see each other's locks.

    Args:
        names: UUIDs, in the order of preference.
        least: how many must be held.
        patience: seconds to wait for them.
        folder: where the lock files lie; /tmp, shared by all users (TMPDIR may be a user's own).

    Raises:
        NoPlaceError: there are fewer, or they did not become free in that time.
    """
    if len(names) < least:
        raise NoPlaceError(f"{least} GPUs are needed, {len(names)} are here", hint="set train.gpus to auto")
    folder = folder or Path("/tmp")
    until, told = time.monotonic() + patience, False
    while True:
        held = HeldGpus(
            {name: lock for name in names if (lock := _try_lock(folder / f"millrace-{name}.lock")) is not None}
        )
        if len(held.names) >= least:
            break
        held.keep(0)
        if time.monotonic() >= until:
            raise NoPlaceError(
                f"{least} of the GPUs {', '.join(names)} were not free for {patience:.0f} s",
                hint="another training holds them; Airflow's pool gpu should have as many slots as the host has GPUs",
            )
        if not told:
            say(f"waiting for {least} GPU(s): another training holds them")
            told = True
        time.sleep(_POLL_SECONDS)
    try:
        yield held
    finally:
        held.keep(0)


def _try_lock(path: Path) -> int | None:
    """The locked file, or None where another process holds it. Any user's process can lock it."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # the file stays: one that is removed would be locked twice, under its old and its new inode
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.fchmod(lock, 0o644)  # whatever this user's mask: another's training must see the lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _named(visible: str) -> list[str]:
    names = []
    for name in visible.split(","):
        # CUDA itself stops reading at the first -1.
        if not name.strip() or name.strip() == "-1":
            break
        names.append(name.strip())
    return names
