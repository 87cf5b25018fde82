"""No Airflow DAG: it shows what is wrong in config/ as an import error in the UI.

Airflow takes a file's healthy DAGs away as soon as the same file has an import error. So the DAGs of
what can be read are built in `pipelines.py`, and what can't be read is told by this file.
"""

from millrace_airflow.catalog import read_catalog

from tasks.errors import SpecError

problems = read_catalog().problems

if problems:
    raise SpecError("\n\n".join(problems), hint="mend the file, then `millrace check`")
