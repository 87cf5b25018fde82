"""What `make proof` found, written to docs/reliability.md by the run itself: dated, with the machine that it ran on.

A case that ended well is kept under .proofs/ for the state of the code that it ran on: a run that was cut off, or that
shares the cases with others, goes on with what is left. The table is written when every case of its section is there.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from tests.support.dask_processes import ROOT
from tests.support.faulty_proxy import KINDS
from tests.support.kills import COMBINATIONS, commit

FILE = ROOT / "docs" / "reliability.md"
KEPT = ROOT / ".proofs"
WRITES = ("*.py", "lake/*.py", "registry/*.py", "domain/*.py", "command/*.py")
WRITES += ("compute/checkpoints.py", "compute/trials.py", "formats/*.py", "quality/*.py", "sql/*.py")
TRAINS = ("compute/*.py", "train.py", "fit.py", "spans.py", "search.py", "labelled.py")
CODE = {
    "kill-points": WRITES,
    "histories": WRITES,
    "faults": WRITES,
    "mutants": WRITES,
    "kills": TRAINS,
    "cuts": TRAINS,
}
"""Section -> the code below tasks/ that it proves: it must be newer than any change there."""

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A header and its rows."""
Found = Mapping[str, Any]


class Proof:
    """The cases of a section, of which each must end well.

    Args:
        section: its name in the file.
        cases: their names.
        table: makes the section's table of what was found in all of them.
    """

    def __init__(self, section: str, cases: Iterable[str], table: Callable[[Sequence[Found]], Table]) -> None:
        self.section, self.cases, self._table = section, set(cases), table
        self._kept = KEPT / f"{section}-{code()}.jsonl"

    def skip_kept(self, case: str) -> None:
        """Skip a case that ended well on this code."""
        if (found := self._found().get(case)) is not None:
            pytest.skip(f"ended well at {found['at']} on this code: .proofs/{self._kept.name}")

    def add(self, case: str, **found: Any) -> None:
        """Keep what was found in a case that ended well; with the last one the table is written."""
        assert case in self.cases, case
        line = json.dumps({"case": case, "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", **found}) + "\n"
        KEPT.mkdir(exist_ok=True)
        with self._kept.open("a", encoding="utf-8") as file:
            file.write(line)  # at once: others add to it too
        every = self._found()
        if every.keys() >= self.cases:
            write_section(self.section, *self._table([every[name] for name in sorted(self.cases)]))

    def _found(self) -> dict[str, Found]:
        if not self._kept.exists():
            return {}
        found = map(json.loads, self._kept.read_text(encoding="utf-8").splitlines())
        return {one["case"]: one for one in found if one["case"] in self.cases}


def kills_table(found: Sequence[Found]) -> Table:
    """The killed trainings: each has what, place, resumed_from, off (of the unbroken AUC) and seconds."""
    rows = []
    for combination in COMBINATIONS:
        mine = [one for one in found if (one["what"], one["place"]) == combination]
        resumed, seconds = [one["resumed_from"] for one in mine], [one["seconds"] for one in mine]
        rows.append(
            [
                *combination,
                str(len(mine)),
                str(sum(one > 0 for one in resumed)),
                f"{min(resumed)} to {max(resumed)}",
                f"{max(one['off'] for one in mine):.4f}",
                f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
            ]
        )
    worst, usual = max(one["off"] for one in found), median(one["seconds"] for one in found)
    resumed = str(sum(one["resumed_from"] > 0 for one in found))
    rows.append(["together", "", str(len(found)), resumed, "", f"{worst:.4f}", f"{usual:.1f}"])
    names = ["killed", "training in", "times", "resumed", "from round", "AUC off by at most", "seconds to the model"]
    return names, rows


def kill_points_table(found: Sequence[Found]) -> Table:
    """The kills of all points: each has its scenario, and how many orphaned files maintenance took away."""
    rows = []
    for name in sorted({one["scenario"] for one in found}):
        mine = [one["swept"] for one in found if one["scenario"] == name]
        rows.append([name, str(len(mine)), str(sum(mine)), "none"])
    rows.append(["together", str(len(found)), str(sum(one["swept"] for one in found)), "none"])
    return ["verb", "killed and run again", "orphaned files swept", "failures"], rows


def histories_table(found: Sequence[Found]) -> Table:
    """What there was in the histories in which each promise was held: each has its counts."""
    counts = sum((Counter(one["counts"]) for one in found), Counter())
    return [*counts, "failures"], [[*map(str, counts.values()), "none"]]


def mutants_table(found: Sequence[Found]) -> Table:
    """The planted mutants: each has its name and what was said of the lake."""
    rows = [[one["mutant"].replace("_", " "), "nothing", one["said"]] for one in found]
    return ["mutant", "said where it is not planted", "said where it is"], [
        *rows,
        [f"caught: {len(found)} of {len(found)}", "", ""],
    ]


def faults_table(found: Sequence[Found]) -> Table:
    """The loops on a faulty wire that ended as without a fault, by the share of requests that failed.

    Each has its share, requests, kinds (kind -> count), lost_creations and failed (attempts that failed clean).
    """
    rows = []
    for share in sorted({one["share"] for one in found}):
        mine = [one for one in found if one["share"] == share]
        kinds = sum((Counter(one["kinds"]) for one in mine), Counter())
        counts = [sum(one["requests"] for one in mine), *(kinds[kind] for kind in KINDS)]
        counts += [sum(one[name] for one in mine) for name in ("lost_creations", "failed")]
        rows.append([f"{share:.0%}", str(len(mine)), *(f"{count:,}" for count in counts)])
    return ["share", "loops", "requests", *KINDS, "lost answers to creations", "attempts that failed clean"], rows


def write_section(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Put a table between a section's marks in the file, with the date, the code and the machine."""
    lines = [_where(name), "", _row(header), _row("---" for _ in header), *(_row(row) for row in rows)]
    with FILE.open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two processes share the proofs
        text = file.read()
        found = _section(name).search(text)
        assert found, f"{FILE.name} has no section {name}"
        file.seek(0)
        file.write(text[: found.start(1)] + "\n".join(["", *lines, ""]) + text[found.end(1) :])
        file.truncate()


def stale() -> list[str]:
    """The sections that were proved on other code than today's, or never."""
    text = FILE.read_text(encoding="utf-8")
    return [name for name in CODE if f"code {digest(proved(name))}" not in _section(name).search(text)[1]]


def proved(section: str) -> list[Path]:
    """The files that a section proves."""
    return sorted(file for pattern in CODE[section] for file in (ROOT / "tasks").glob(pattern))


def digest(files: Sequence[Path]) -> str:
    """Of what the files do: comments, docstrings and layout don't count."""
    found = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(getattr(node, "body", None), list):
                node.body = [one for one in node.body if not _text(one)]
        found.update(f"{file.relative_to(ROOT)}\n{ast.dump(tree)}\n".encode())
    return found.hexdigest()[:12]


def code() -> str:
    """Digest of all that a proof runs: what is kept is of one, and its random cases are drawn from it."""
    return digest(sorted([*(ROOT / "tasks").rglob("*.py"), *(ROOT / "tests" / "support").glob("*.py")]))


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _section(name: str) -> re.Pattern[str]:
    return re.compile(f"<!-- {re.escape(name)}:begin -->(.*?)<!-- {re.escape(name)}:end -->", re.DOTALL)


def _where(section: str) -> str:
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in ("xgboost", "distributed"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit() or 'unknown'}, code {digest(proved(section))}: {os.cpu_count()} CPUs, {memory:.0f} GiB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {versions}."
    )


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    if left := stale():
        raise SystemExit(f"docs/reliability.md: {', '.join(left)} were not proved on this code: make proof")
