"""The embedded platform: PostgreSQL, MLflow and Airflow as processes of one home.

addresses = up(settings)        # idempotent; returns once everything answers
AirflowApi(settings)            # runs, backfills, DAGs, pools
airflow_environment(settings)   # for `python -P -m airflow ...` by hand
down(settings), clean(settings)
"""

from tasks.services.airflow_api import AirflowApi, Run, TaskInstance
from tasks.services.lifecycle import Progress, airflow_environment, clean, down, up
from tasks.services.observe import Addresses, ServiceStatus, addresses, status

__all__ = [
    "Addresses",
    "AirflowApi",
    "Progress",
    "Run",
    "ServiceStatus",
    "TaskInstance",
    "addresses",
    "airflow_environment",
    "clean",
    "down",
    "status",
    "up",
]
