"""The identity of a feature view: its SQL, and what it reads, in twelve hex digits.

A comment or another layout makes no new view; anything that may change a feature does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec
from tasks.errors import SqlError
from tasks.sql.syntax import parse, without_locations

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<number>\d[\w.]*)
      | (?P<word>\w+)
      | (?P<operator>[+\-*/<>=~!@%^&|?:]+?(?=--|/\*)|[+\-*/<>=~!@%^&|?:]+)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)


def view_id(sql: str, spec: PipelineSpec, rollups: Mapping[str, str] | None = None) -> str:
    """The id of the feature view that a feature SQL and a pipeline's spec make: 12 hex digits of a SHA-256.

    Args:
        rollups: the ids of the rollups that the SQL may read, by name.
    """
    document = {
        "sql": canonical(sql),
        "entity": spec.entity,
        "driver": spec.driver.name,
        "grain": spec.grain,
        "timezone": spec.timezone,
        "as_of": str(spec.as_of),
        "lookback": str(spec.lookback),
        "sources": {name: source_identity(use.source) for name, use in spec.sources.items()},
    }
    if rollups:
        document["rollups"] = rollups
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def source_identity(source: SourceSpec) -> dict:
    """What of a source may change a feature."""
    return {
        "grain": source.grain,
        "timezone": source.timezone,
        "available": str(source.available),
        "time": source.time,
        # in their order, which SELECT * follows
        "columns": list(source.columns.items()),
    }


def canonical(sql: str) -> str:
    """The SQL with one space between its tokens and no comments; as it is where that would change its meaning.

    The text stays the digest's subject, not DuckDB's syntax tree, so that an upgrade of DuckDB does
    not rename every view.
    """
    tokens = [match.group() for match in _TOKEN.finditer(sql) if match.lastgroup != "space"]
    while tokens and tokens[-1] == ";":
        tokens.pop()
    text = " ".join(tokens)
    try:
        same = _meaning(text) == _meaning(sql)
    except SqlError:
        same = False
    return text if same else sql


def _meaning(sql: str):
    return without_locations(parse(sql, file="features.sql"))
