"""Run in a process of its own: reads dags/ with each configuration given and tells what came out.

Arguments: configuration folders. Prints one JSON line: for each folder the seconds of processor time,
import errors and DAGs after a round trip through Airflow's serialisation; and the loaded modules.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

import airflow.sdk  # noqa: F401 - the time of importing Airflow itself is not ours
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import BaseSerialization, DagSerialization

# Not from `tasks`: the time of importing it is ours.
DAGS = Path(__file__).resolve().parent.parent.parent / "dags"


def main(configs: list[str]) -> None:
    logging.disable(logging.CRITICAL)
    parses = [_parse(config) for config in configs]
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps({"parses": parses, "modules": modules}))


def _parse(config: str) -> dict:
    os.environ["MILLRACE_CONFIG"] = config
    began = time.process_time()
    bag = DagBag(str(DAGS))
    seconds = time.process_time() - began
    errors = {os.path.basename(file): text for file, text in bag.import_errors.items()}
    return {"seconds": seconds, "errors": errors, "dags": {dag_id: _describe(dag) for dag_id, dag in bag.dags.items()}}


def _describe(dag) -> dict:
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    return {
        "schedule": again.timetable.summary,
        "partitioned": again.timetable.partitioned,
        "periodic": again.timetable.periodic,
        "catchup": again.catchup,
        "max_active_runs": again.max_active_runs,
        "page": again.doc_md,
        "tags": sorted(again.tags),
        "assets": sorted(key.name for key, _ in again.timetable.asset_condition.iter_assets()),
        "tasks": {
            task.task_id: {
                "after": sorted(task.upstream_task_ids),
                "pool": task.pool,
                "outlets": sorted(_asset(one).name for one in task.outlets),
                "links": sorted(task.extra_links),
                "mapped": task.is_mapped,
            }
            for task in again.tasks
        },
    }


def _asset(one):
    # those of mapped tasks come back as they were written
    return BaseSerialization.deserialize(one) if isinstance(one, dict) else one


if __name__ == "__main__":
    main(sys.argv[1:])
