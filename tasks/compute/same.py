"""Whether two processes would compute the same: a digest of the code and of the libraries that rows depend on."""

from __future__ import annotations

import hashlib
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("duckdb", "pyarrow", "deltalake", "numpy")
"""Not XGBoost: a worker without a GPU may have its small wheel, which has another name."""


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


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
