"""All benchmarks, or some, in one command: `python -m benchmarks [PART ...] [--quick]`.

Writes what it measured to `benchmarks/measured/` and the table to `benchmarks/RESULTS.md`; with `--quick` the
sizes are tiny, one round each, and the table goes to the terminal alone: that the scripts work, and nothing else.
Whole, it takes about an hour and a quarter on two cores, 10 GB of memory and of disk; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

PARTS = ("training", "task", "scoring", "validation", "features", "point_in_time", "hourly", "platform")
_QUICK = {
    "training": {"rows": 20_000, "boosts": 3, "pairs": 1},
    "task": {"rows": 20_000, "boosts": 3, "pairs": 1},
    "scoring": {"rows": 20_000, "small": 10_000, "large": 40_000, "times": 1},
    "validation": {"rows": 20_000, "times": 1},
    "features": {"step": 180, "times": 1, "copies": 2},
    "point_in_time": {"events": 1_000, "times": 1},
    "hourly": {"hours": 60, "times": 1},
    "platform": {"days": 2, "arrivals": 1, "times": 1, "due": 1, "every": 1},
}


def main() -> None:
    from benchmarks import report
    from benchmarks.measure import hurry, say
    from tasks.settings import load_settings

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing is written to RESULTS.md")
    parser.add_argument(
        "--folder", type=Path, help="where data is kept and scratch files lie; MILLRACE_HOME/benchmarks"
    )
    words = parser.parse_args()
    for name in words.parts:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}: one of {', '.join(PARTS)}")
    if words.quick:
        hurry()
    folder = (words.folder or load_settings().home / "benchmarks").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in words.parts or PARTS:
        say(f"== {name}")
        began = time.monotonic()
        part = importlib.import_module(f"benchmarks.{name}").measure(folder, **(_QUICK[name] if words.quick else {}))
        report.show(part)
        if not words.quick:
            report.keep(name, part, seconds=time.monotonic() - began)
            report.write((*PARTS, report.GPU))


if __name__ == "__main__":
    main()
