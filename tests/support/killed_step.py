"""Run in a process of its own: `millrace`, killed by SIGKILL at one call of a gateway.

Arguments: `module:Class.method`, `before` or `after`, which call of it (1 for the first), then the
command's own words. A method named with `@text` counts only calls that have `text` in their first argument.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys


def arm(target: str, moment: str, number: int) -> None:
    """Have the process die at the given call; with `after`, where that one raises, behind the next that returns."""
    target, _, text = target.partition("@")
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), 0

    def call(*args, **kwargs):
        nonlocal calls
        told = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
        counts = not text or any(text in value for value in told)
        calls += counts
        if counts and calls == number and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if counts and calls >= number and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, call)


if __name__ == "__main__":
    arm(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    from tasks.__main__ import main

    sys.exit(main(sys.argv[4:]))
