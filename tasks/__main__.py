"""The `millrace` command: a second driver beside Airflow, so that nothing depends on Airflow by accident.

Exit codes: 0 done, 1 failed, 2 wrong usage. Errors are one line; `--debug` adds the trace.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence

from tasks.errors import PartitionKeyError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    from tasks.command.output import fail
    from tasks.command.parser import parse

    _watch_lifeline()
    options = parse(arguments)
    try:
        return options.handler(options) or 0
    except (UsageError, PartitionKeyError) as error:
        fail(error, as_json=options.json, debug=options.debug)
        return 2
    except KeyboardInterrupt:
        print("millrace: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        fail(error, as_json=options.json, debug=options.debug)
        return 1


def _watch_lifeline() -> None:
    """End this process and its group when the pipe to the parent closes: a killed task leaves nothing behind."""
    descriptor = os.environ.pop("MILLRACE_LIFELINE", "")
    if not descriptor.isdigit():
        return

    def watch() -> None:
        while os.read(int(descriptor), 1):
            pass
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    # a step's process: XGBoost's import would import it, which takes five times as long, for classes that no step uses
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    # a year's state is a hundred thousand objects that stay: looking for garbage among them took a quarter of a plan
    gc.set_threshold(20_000)
    sys.exit(main())
