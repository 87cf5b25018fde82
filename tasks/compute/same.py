"""Whether two processes would compute the same: the code, and the libraries that rows and models depend on."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.settings import REPOSITORY

_LIBRARIES = ("duckdb", "pyarrow", "deltalake", "numpy")
"""Not XGBoost: a worker without a GPU may have its small wheel, which has another name."""
_XGBOOST = ("xgboost", "xgboost-cpu", "xgboost-cu12")
"""The wheels that carry the module."""


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of Python's version, of Millrace's own files and of its libraries' versions."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    for name in _LIBRARIES:
        digest.update(f"{name} {_version(name)}\0".encode())
    return digest.hexdigest()


def environment() -> dict[str, str | None]:
    """What a training's bytes depend on beside its inputs, of this process; None for what can't be told.

    `code` is of the package as it lies there, changed since its commit or not. Limitation: of the processor and
    the GPU only the kind is told.
    """
    lock = REPOSITORY / "requirements.lock"
    found = [_version(name) for name in _XGBOOST]
    return {
        "code": code_digest(),
        "commit": _commit(REPOSITORY / ".git"),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "xgboost": next((text for text in found if text != "none"), None),
    }


def _commit(git: Path) -> str | None:
    """The commit that is checked out, from git's own files; None outside of a checkout."""
    try:
        if git.is_file():  # a further working tree
            git = (git.parent / git.read_text().partition("gitdir:")[2].strip()).resolve()
        head = git.joinpath("HEAD").read_text().strip()
        name = head.partition("ref: ")[2]
        if not name:
            return head
        common = git / "commondir"
        top = (git / common.read_text().strip()).resolve() if common.is_file() else git
        if (top / name).is_file():
            return (top / name).read_text().strip()
        packed = re.search(rf"^([0-9a-f]+) {re.escape(name)}$", (top / "packed-refs").read_text(), re.MULTILINE)
        return packed[1] if packed else None
    except OSError:
        return None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
