"""What the command prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

from tasks.errors import MillraceError


def say(text: str) -> None:
    """One line of progress for a person or a task log."""
    print(text, file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned columns."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def emit(value: Any, text: str, *, as_json: bool) -> None:
    """The command's result: JSON on the last line, or text for a person."""
    print(json.dumps(value, separators=(",", ":"), default=str) if as_json else text, flush=True)


def fail(error: BaseException, *, as_json: bool, debug: bool) -> None:
    """One readable line; the trace only with --debug."""
    if debug:
        traceback.print_exception(error)
    if not isinstance(error, MillraceError):
        text = f"unexpected {type(error).__name__}: {error}".rstrip(": ")
        error = MillraceError(text, hint="run again with --debug for the trace")
    if as_json:
        plain = {
            key: value for key, value in vars(error).items() if isinstance(value, str | int | float | list | tuple)
        }
        print(json.dumps({"error": {"type": type(error).__name__, "retry": error.retry, **plain}}), flush=True)
    print(f"millrace: {' '.join(str(error).split())}", file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, *, visible: bool = True):
    """A progress bar of one phase; yields a function of (done, total).

    On a terminal a bar; elsewhere, as in a task log, a line every few seconds.
    """
    if visible and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = [TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        with Progress(*columns, console=Console(stderr=True)) as bars:
            bar = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total)
        return
    started = told = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if visible and (now - told > 5 or done == total):
            told = now
            say(f"{title}: {done} of {total} ({now - started:.0f} s)")

    yield line
