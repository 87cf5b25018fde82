"""All sources and pipelines of config/, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks.command.check import check_declared, check_source
from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec
from tasks.errors import MillraceError, SpecError
from tasks.settings import load_pipeline, load_settings, load_source, pipeline_names, source_names

Spec = TypeVar("Spec", SourceSpec, PipelineSpec)


@dataclass(frozen=True)
class Catalog:
    """What DAGs are built of.

    Attributes:
        sources: every readable source, shared or written inside a pipeline, by name.
        pipelines: every readable pipeline, by name.
        problems: one text for each file that can't be used.
    """

    sources: tuple[SourceSpec, ...]
    pipelines: tuple[PipelineSpec, ...]
    problems: tuple[str, ...]

    @property
    def live_sources(self) -> tuple[SourceSpec, ...]:
        return tuple(source for source in self.sources if is_live(source))


def read_catalog(dag_id: str | None = None) -> Catalog:
    """Read config/: all of it, or only what one DAG is built of.

    Args:
        dag_id: Airflow's parsing context; a task needs no DAG but its own.
    """
    try:
        config = load_settings().config
    except MillraceError as error:
        return Catalog((), (), (str(error),))
    only = None if dag_id is None else dag_id.partition("__")[0]
    problems: dict[str, None] = {}
    if only is not None and dag_id != f"{only}__ingest":
        pipelines = _read(problems, lambda name: _pipeline(config, name), [only], pipeline_names(config))
        return Catalog((), pipelines, tuple(problems))
    shared = source_names(config)
    sources = {
        spec.name: spec
        for spec in _read(problems, lambda name: _source(config, name), shared if only is None else [only], shared)
    }
    if only in sources:
        return Catalog((sources[only],), (), tuple(problems))
    pipelines = _read(problems, lambda name: _pipeline(config, name), pipeline_names(config))
    for spec in pipelines:
        for use in spec.sources.values():
            known = sources.setdefault(use.source.name, use.source)
            if known != use.source:
                problems[
                    f"{config}/pipelines/{spec.pipeline}/pipeline.yaml: sources.{known.name}: another pipeline writes"
                    " a source of this name differently; share it in config/sources/, or give this one another name"
                ] = None
    return Catalog(tuple(sources.values()), pipelines, tuple(problems))


def is_live(source: SourceSpec) -> bool:
    """Whether a source is more than reference data and a historical load."""
    if source.grain == "none":
        return False
    return source.history is None or source.end is None or source.end >= source.history


def _read(
    problems: dict[str, None], load: Callable[[str], Spec], names: list[str], known: list[str] | None = None
) -> tuple[Spec, ...]:
    found = []
    for name in names:
        if known is not None and name not in known:
            continue
        try:
            found.append(load(name))
        except (MillraceError, OSError, ValueError) as error:
            problems[str(error)] = None
    return tuple(found)


def _source(config: Path, name: str) -> SourceSpec:
    source = load_source(config, name)
    check_source(config, source)
    return source


def _pipeline(config: Path, name: str) -> PipelineSpec:
    if name in source_names(config):
        raise SpecError(f"{config}/pipelines/{name}: a shared source has the same name", hint="rename one of them")
    spec = load_pipeline(config, name)
    check_declared(config, spec)
    return spec
