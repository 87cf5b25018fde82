"""Model versions in the lake: each one's descriptor, with all that scoring, provenance and reproduction need of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks.errors import DigestError, NotFoundError

if TYPE_CHECKING:
    from tasks.lake.lake import Lake


def version_key(line: str, version: int) -> str:
    """Where a model version's descriptor lies: what is needed to score with it, without MLflow."""
    return f"{line}/versions/{version}.json"


def load_version(lake: Lake, line: str, version: int, *, digest: str | None = None) -> dict[str, Any]:
    """A version's descriptor.

    Args:
        digest: of the model that it must describe; None for whichever it does.

    Raises:
        NotFoundError: the line has no such version.
        DigestError: it describes another model.
    """
    name = version_key(line, version)
    try:
        descriptor = json.loads(lake.objects.get(name))
    except FileNotFoundError as error:
        known = ", ".join(str(one) for one in versions(lake, line))
        raise NotFoundError(f"{line} has no version {version}", hint=f"its versions: {known or 'none'}") from error
    if digest is not None and descriptor["digest"] != digest:
        raise DigestError(
            f"{name} describes another model than the ledger's version {version}", hint="restore it from a backup"
        )
    return descriptor


def versions(lake: Lake, line: str) -> list[int]:
    """The numbers of a line's versions, in order."""
    folder = f"{line}/versions/"
    names = (info.key.removeprefix(folder).removesuffix(".json") for info in lake.objects.list(folder))
    return sorted(int(name) for name in names if name.isdigit())
