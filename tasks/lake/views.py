"""Feature views in the lake: the SQL of a digest, and what it was made for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks.errors import DigestError

if TYPE_CHECKING:
    from tasks.lake.lake import Lake


def view_key(pipeline: str, view: str) -> str:
    return f"{pipeline}/views/{view}.json"


def load_view(lake: Lake, pipeline: str, view: str) -> dict[str, Any]:
    """A published view's JSON; DigestError when it is not there, or not what its id says."""
    try:
        values = json.loads(lake.objects.get(view_key(pipeline, view)))
    except (FileNotFoundError, ValueError) as error:
        what = "is no JSON" if isinstance(error, ValueError) else "is not there"
        raise DigestError(f"{view_key(pipeline, view)} {what}: {error}", hint="restore it from a backup") from error
    if values.get("id") != view:
        raise DigestError(f"{view_key(pipeline, view)} is not view {view}")
    return values
