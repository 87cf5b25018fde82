"""`millrace backfill`: a range of days through the pipeline's DAG of backfills, and what it took."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tasks.command import output
from tasks.domain.spec import PipelineSpec
from tasks.errors import UsageError
from tasks.settings import Settings, load_settings


def backfill(options: argparse.Namespace) -> int:
    """Have Airflow ingest, train and score the range, wait for it, and tell what became of it.

    Returns:
        1 where a partition was left that waits for inputs, was not published, or was trained on; else 0.

    Raises:
        UsageError: unknown stages, or no partition in the range.
        ServiceError: the run failed, or Airflow does not answer.
    """
    from tasks.command import airflow as through
    from tasks.command.names import known_pipeline
    from tasks.domain.ranges import STAGES, pipeline_partitions
    from tasks.services import AirflowApi
    from tasks.settings import load_pipeline

    settings = load_settings()
    known_pipeline(settings, options.pipeline)
    spec = load_pipeline(settings.config, options.pipeline)
    stages = options.stages.split(",")
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UsageError(f"--stages: {unknown[0]!r} is none of {', '.join(STAGES)}")
    if options.last < options.first:
        raise UsageError(f"--to {options.last} is before --from {options.first}")
    if "score" in stages and not pipeline_partitions(spec, options.first, options.last):
        raise UsageError(f"{spec.pipeline} has no partitions from {options.first} to {options.last}")
    if options.dry_run:
        return _dry_run(options, settings, spec, stages)
    defaults = {"force": False, "model": "as-of", "allow_in_sample": False, "data": "as-known"}
    conf = {name: value for name in defaults if (value := getattr(options, name)) != defaults[name]}
    days = options.first, options.last
    run, found = through.backfill(AirflowApi(settings), spec.pipeline, *days, stages=stages, options=conf)
    published, left = found["published"], found["left"]
    waiting = [text for text in left if any(f": {why}" in text for why in ("waits for", "not published", "in sample"))]
    lines = [f"trained {one['training']}: {one['verdict']}" for one in found["trained"]]
    lines += [f"{published} partitions published, {len(left)} left alone", *(f"  {line}" for line in left[:20])]
    text = "\n".join(lines)
    values: dict[str, Any] = {"run": run.run_id, **found}
    if "score" in stages:
        from tasks.command.plan import against
        from tasks.command.plan import plan as plan_range

        measured = plan_range(settings, spec.pipeline, options.first, options.last, model="as-of").measured
        values["measured"] = measured and asdict(measured)
        text += "" if measured is None else f"\n{against(measured)}"
    output.emit(values, text, as_json=options.json)
    return 1 if waiting else 0


def _dry_run(options: argparse.Namespace, settings: Settings, spec: PipelineSpec, stages: list[str]) -> int:
    """Tell what each stage would find to do as things stand now; the later ones find more after the earlier ones."""
    from tasks.command import plan
    from tasks.domain import tables
    from tasks.domain.ranges import range_trainings, source_keys
    from tasks.lake import open_lake

    values: dict[str, Any] = {}
    lines: list[str] = []
    if "ingest" in stages:
        lake, values["deliveries"] = open_lake(settings), {}
        for name, use in spec.sources.items():
            keys = source_keys(spec, use.source, options.first, options.last)
            landed = {key for key, _ in lake.table(tables.raw(name)).entries()}
            missing = values["deliveries"][name] = [key for key in keys if key not in landed]
            lines.append(f"ingest {name}: {len(missing)} of {len(keys)} deliveries are not in the lake")
    if "train" in stages:
        found = range_trainings(spec, options.first, options.last, datetime.now(UTC))
        values["trainings"] = [one.key for one in found]
        lines.append(f"train: {', '.join(values['trainings']) or 'no training of the range has data enough'}")
    if "score" in stages:
        wanted = {"model": options.model, "allow_in_sample": options.allow_in_sample, "force": options.force}
        planned = plan.plan(settings, spec.pipeline, options.first, options.last, data=options.data, **wanted)
        values |= planned.to_dict()
        lines += ["", plan.text(planned)] if lines else [plan.text(planned)]
    output.emit(values, "\n".join(lines), as_json=options.json)
    return 0
