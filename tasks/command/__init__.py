"""The `millrace` command: composes the verbs, as the DAGs do, without Airflow."""
