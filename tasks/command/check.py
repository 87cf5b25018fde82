"""`millrace check`: every source and pipeline read, bound and compiled, without data."""

from __future__ import annotations

from pathlib import Path

from tasks.command.names import known_part
from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec
from tasks.errors import MillraceError, SpecError
from tasks.settings import (
    Settings,
    contract_file,
    features_sql,
    load_pipeline,
    load_source,
    pipeline_names,
    rollups_sql,
    source_names,
)


def check(settings: Settings, names: list[str]) -> list[tuple[str, str, str]]:
    """(kind, name, problem or '') of the sources and pipelines; all of them when no names are given."""
    known = {
        **{n: "source" for n in source_names(settings.config)},
        **{n: "pipeline" for n in pipeline_names(settings.config)},
    }
    for name in names:
        known_part(settings, name)
    return [(kind, name, _problem(settings, kind, name)) for name, kind in known.items() if not names or name in names]


def _problem(settings: Settings, kind: str, name: str) -> str:
    try:
        if kind == "source":
            check_source(settings.config, load_source(settings.config, name))
        else:
            check_pipeline(settings, name)
    except (MillraceError, OSError) as error:
        return str(error)
    return ""


def check_source(config: Path, source: SourceSpec) -> None:
    """The source's contract fits its columns; light enough for Airflow's parsing of DAG files."""
    file = contract_file(config, source)
    if file is not None:
        from tasks.quality import check_suite

        check_suite(file, dict(source.columns))


def check_pipeline(settings: Settings, name: str) -> None:
    """The spec, its features, its label and its parameters fit together."""
    from tasks.sql.labels import check_label
    from tasks.view import describe_view

    spec = load_pipeline(settings.config, name)
    shared = source_names(settings.config)
    if name in shared:
        raise SpecError(
            f"pipeline {name!r} has the name of a shared source", hint="their DAGs and tables would collide: rename one"
        )
    check_declared(settings.config, spec)
    file = str(settings.config / "pipelines" / name / spec.features)
    describe_view(spec, features_sql(settings.config, spec), rollups_sql(settings.config, spec), file)
    label = spec.sources[spec.label.source].source
    check_label(
        spec.label.sql,
        unlabelled=spec.label.unlabelled,
        columns=dict(label.columns),
        objective=spec.train.objective,
        file=str(settings.config / "pipelines" / name / "pipeline.yaml"),
    )


def check_declared(config: Path, spec: PipelineSpec) -> None:
    """The contracts of a pipeline's sources and XGBoost's parameters; light enough for Airflow's parsing of DAG files."""
    from tasks.compute.params import check_params, check_space

    for use in spec.sources.values():
        check_source(config, use.source)
    try:
        check_params(spec.train.objective, spec.train.params)
        if spec.train.search:
            check_space(spec.train.objective, spec.train.params, spec.train.search.space)
    except SpecError as error:
        file = config / "pipelines" / spec.pipeline / "pipeline.yaml"
        raise SpecError(f"{file}: {error.message}", hint=error.hint) from error
