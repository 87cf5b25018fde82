"""When `millrace__wake` runs: as soon as clean data of a live source was published, and every few minutes.

Airflow starts a DAG without partitions on no event that carries a partition key, and its asset-or-time
schedule passes none on. So this is a partitioned timetable whose mapper merges all keys into one, and
whose clock makes a run of its own: events only wake, what is due is computed from the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow._shared.timezones.timezone import coerce_datetime, utcnow
from airflow.partition_mappers.fixed_key import FixedKeyMapper
from airflow.sdk import Asset, AssetAny
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.simple import PartitionedAssetTimetable
from airflow.utils.strings import get_random_string

from millrace_airflow.timetable import plain

ARRIVAL = "arrival"
CLOCK = "clock"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class WakeTimetable(PartitionedAssetTimetable):
    """Runs after any event of `assets`, and each `minutes` minutes.

    Args:
        assets: what wakes; at least one.
        minutes: between two runs of the clock.
    """

    can_be_scheduled = True

    def __init__(self, *, assets: Any, minutes: int) -> None:
        condition = AssetAny(*assets) if isinstance(assets, Sequence) else assets
        super().__init__(assets=condition, default_partition_mapper=FixedKeyMapper(ARRIVAL))
        self.minutes = minutes
        self.description = f"When clean data of a live source was published, and every {minutes} minutes"

    @property
    def summary(self) -> str:
        return f"arrivals, every {self.minutes} min"

    def serialize(self) -> dict[str, Any]:
        return {"asset_condition": super().serialize()["asset_condition"], "minutes": self.minutes}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> WakeTimetable:
        from airflow.serialization.decoders import decode_asset_like

        return cls(assets=decode_asset_like(data["asset_condition"]), minutes=data["minutes"])

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The clock's next run: the slot of now, unless it was run already."""
        slot = self._slot(utcnow())
        if last_dagrun_info is not None:
            slot = max(slot, self._slot(last_dagrun_info.run_after) + timedelta(minutes=self.minutes))
        moment = coerce_datetime(slot)
        return DagRunInfo(run_after=moment, data_interval=None, partition_date=moment, partition_key=CLOCK)

    def generate_run_id(
        self, *, run_type: Any, run_after: datetime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        return run_type.generate_run_id(suffix=f"{coerce_datetime(run_after).isoformat()}__{get_random_string()}")

    def _slot(self, instant: datetime) -> datetime:
        instant = plain(instant)
        return instant - (instant - _EPOCH) % timedelta(minutes=self.minutes)


def clean_asset(source: str) -> Asset:
    """The clean table of a source, as Airflow's asset."""
    return Asset(name=f"{source}/clean", uri=f"millrace://sources/{source}/clean")


def predictions_asset(pipeline: str) -> Asset:
    """The predictions of a pipeline, as Airflow's asset."""
    return Asset(name=f"{pipeline}/predictions", uri=f"millrace://{pipeline}/predictions")
