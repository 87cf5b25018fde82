"""Which partition a run is for: its partition key, or what its conf says."""

from __future__ import annotations

from typing import Any

from tasks.domain.partition import ALL, span
from tasks.errors import PartitionKeyError


def partition_of(*, grain: str, timezone: str, partition_key: str | None, conf: dict[str, Any] | None) -> str:
    """The partition of a run as `KEY`, or as `FIRST..LAST`.

    Args:
        grain: of the DAG's partitions.
        timezone: IANA name.
        partition_key: the run's, or None.
        conf: the run's: `{"partition": key}`, or `{"from": key, "to": key}` for a range.

    Raises:
        PartitionKeyError: the run names none, or one that is not of this grain.
    """
    # An empty field of the trigger form is no value.
    conf = {key: value for key, value in (conf or {}).items() if value not in (None, "")}
    if partition_key is not None:
        text = partition_key
    elif "partition" in conf:
        text = str(conf["partition"])
    elif "from" in conf and "to" in conf:
        text = f"{conf['from']}..{conf['to']}"
    elif grain == "none":
        text = ALL
    else:
        raise PartitionKeyError(
            "the run names no partition",
            hint="""trigger it with a partition key, or with a conf such as {"partition": "2013-11-05"} or {"from": "2013-11-05", "to": "2013-11-18"}""",
        )
    span(grain, timezone, text)
    return text
