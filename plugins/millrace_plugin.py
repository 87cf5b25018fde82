"""Registers Millrace with Airflow; everything itself is in `millrace_airflow`."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin
from millrace_airflow.docs_page import PREFIX, DocsApp
from millrace_airflow.priority import TodayFirst
from millrace_airflow.timetable import PartitionTimetable
from millrace_airflow.wake import WakeTimetable


class MillracePlugin(AirflowPlugin):
    """Timetables, the order of waiting tasks, and the page behind a task's Data Docs link."""

    name = "millrace"
    timetables = [PartitionTimetable, WakeTimetable]
    priority_weight_strategies = [TodayFirst]
    fastapi_apps = [{"name": "millrace", "url_prefix": PREFIX, "app": DocsApp()}]
