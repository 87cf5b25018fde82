"""Airflow DAGs of every source and every pipeline in config/: a table of contents.

`<source>__ingest`, `<pipeline>__score`, `<pipeline>__train` and `<pipeline>__backfill`; what they do stands in each
DAG's page.
"""

from airflow.sdk import get_parsing_context
from millrace_airflow.backfill_dag import backfill_dag
from millrace_airflow.catalog import read_catalog
from millrace_airflow.dags import ingest_dag, score_dag, train_dag

catalog = read_catalog(get_parsing_context().dag_id)

for source in catalog.sources:
    ingest_dag(source)

for pipeline in catalog.pipelines:
    score_dag(pipeline)
    train_dag(pipeline)
    backfill_dag(pipeline)
