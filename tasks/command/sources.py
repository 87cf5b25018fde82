"""The sources behind a name that a person typed, and their partitions."""

from __future__ import annotations

from tasks.domain.partition import overlapping, span
from tasks.domain.source import SourceSpec
from tasks.errors import SpecError
from tasks.settings import Settings, load_pipeline, load_source, pipeline_names


def sources_of(settings: Settings, name: str) -> list[SourceSpec]:
    """The sources behind a name: itself, or all of a pipeline."""
    if name in pipeline_names(settings.config):
        return [use.source for use in load_pipeline(settings.config, name).sources.values()]
    return [load_source(settings.config, name)]


def in_source(settings: Settings, name: str, source: SourceSpec, text: str) -> str:
    """The source's partitions that a partition text means: its own, or those of a pipeline's partition."""
    if name == source.name or name not in pipeline_names(settings.config):
        return text
    if source.grain == "none":
        return "all"
    spec = load_pipeline(settings.config, name)
    wanted = span(spec.grain, spec.timezone, text)
    keys = overlapping(source.grain, source.timezone, wanted[0].start, wanted[-1].end)
    if not keys:
        raise SpecError(f"source {source.name!r} has no partition in {text}")
    return f"{keys[0]}..{keys[-1]}"
