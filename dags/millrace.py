"""The platform's own Airflow DAG: `millrace__wake` starts what is due."""

from millrace_airflow.catalog import read_catalog
from millrace_airflow.wake_dag import wake_dag

wake_dag(read_catalog().live_sources)
