"""The platform's own Airflow DAGs: `millrace__wake` starts what is due, `millrace__maintain` tidies at night."""

from millrace_airflow.catalog import read_catalog
from millrace_airflow.maintain_dag import maintain_dag
from millrace_airflow.wake_dag import wake_dag

wake_dag(read_catalog().live_sources)
maintain_dag()
