"""Millrace inside Airflow: schedules, the stage operator, DAG factories, the page behind a task's link."""
