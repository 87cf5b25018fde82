"""Names that a person typed: an unknown one is wrong usage, and the nearest known one is offered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tasks.errors import MillraceError, UsageError
from tasks.settings import Settings, load_pipeline, pipeline_names, source_names


def known_pipeline(settings: Settings, name: str) -> None:
    """Refuse what is no pipeline.

    Raises:
        UsageError: with the nearest name.
    """
    _known("pipeline", name, pipeline_names(settings.config))


def known_source(settings: Settings, name: str) -> None:
    """Refuse what is neither a source, shared or a pipeline's own, nor a pipeline.

    Raises:
        UsageError: with the nearest name.
    """
    pipelines = pipeline_names(settings.config)
    known = {*source_names(settings.config), *pipelines}
    if name in known:
        return
    for pipeline in pipelines:
        try:
            known |= load_pipeline(settings.config, pipeline).sources.keys()
        except MillraceError:  # broken specs are told by `check`; here they only have no names
            continue
    _known("source or pipeline", name, known)


def known_part(settings: Settings, name: str) -> None:
    """Refuse what is neither a shared source nor a pipeline.

    Raises:
        UsageError: with the nearest name.
    """
    _known("shared source or pipeline", name, [*source_names(settings.config), *pipeline_names(settings.config)])


def _known(what: str, name: str, names: Iterable[str]) -> None:
    known = sorted(names)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
        raise UsageError(f"there is no {what} {name!r}", hint=hint)
