"""`millrace due`: what the wake DAG starts, over every source and pipeline that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from tasks.command.output import say
from tasks.domain.source import SourceSpec
from tasks.errors import MillraceError
from tasks.lake import open_lake, open_landing
from tasks.plan import Due, due_ingests, due_scores
from tasks.settings import Settings, load_pipeline, load_source, pipeline_names, source_names


def due(settings: Settings, now: datetime) -> list[Due]:
    """Every due live partition; a source or pipeline that can't be read is said and holds up nobody else."""
    lake, landing, root = open_lake(settings), open_landing(settings), settings.landing_uri
    sources: dict[str, SourceSpec] = {}
    found: list[Due] = []
    for name in source_names(settings.config):
        with _said():
            sources[name] = load_source(settings.config, name)
    for name in pipeline_names(settings.config):
        with _said():
            spec = load_pipeline(settings.config, name)
            sources |= {use.source.name: use.source for use in spec.sources.values()}
            found += due_scores(spec=spec, lake=lake, now=now)
    for source in sources.values():
        with _said():
            found += due_ingests(source=source, lake=lake, landing=landing, root=root, now=now)
    return found


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except (MillraceError, OSError) as error:
        say(f"millrace: {error}")
