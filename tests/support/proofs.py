"""What `make proof` found, written to docs/reliability.md by the run itself: dated, with the machine that it ran on."""

from __future__ import annotations

import json
import os
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any

import psutil

from tests.support.dask_processes import ROOT
from tests.support.faulty_proxy import KINDS, FaultyProxy
from tests.support.kills import COMBINATIONS, Survived, commit

FILE = ROOT / "docs" / "reliability.md"


@dataclass
class Kills:
    """The killed trainings of a run that ended well.

    Attributes:
        commit: that was tested, and that the kills were drawn from.
        unbroken: the AUC of the same training without a kill.
        expected: how many must end well for the figures to be written.
    """

    commit: str
    unbroken: float
    expected: int
    survived: list[Survived] = field(default_factory=list)

    def add(self, survived: Survived) -> None:
        self.survived.append(survived)

    def write(self) -> None:
        """Write the figures down; a run in which one failed, or that was only a part, writes nothing."""
        if len(self.survived) < self.expected:
            return
        rows = []
        for combination in COMBINATIONS:
            found = [one for one in self.survived if (one.kill.what, one.kill.place) == combination]
            resumed = [one.resumed_from for one in found]
            seconds = [one.seconds for one in found]
            off = max(abs(one.auc - self.unbroken) for one in found)
            rows.append(
                [
                    *combination,
                    str(len(found)),
                    str(sum(one > 0 for one in resumed)),
                    f"{min(resumed)} to {max(resumed)}",
                    f"{off:.4f}",
                    f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
                ]
            )
        total = ["together", "", str(len(self.survived)), str(sum(one.resumed_from > 0 for one in self.survived))]
        worst = max(abs(one.auc - self.unbroken) for one in self.survived)
        rows.append([*total, "", f"{worst:.4f}", f"{median(one.seconds for one in self.survived):.1f}"])
        names = [
            "killed",
            "training in",
            "times",
            "resumed",
            "from round",
            "AUC off by at most",
            "seconds to the model",
        ]
        write_section("kills", names, rows)


@dataclass
class KillPoints:
    """The kills of all points of the list.

    Attributes:
        expected: how many must end well for the figures to be written.
        done: scenario, seconds, and how many orphaned files maintenance took away, of each.
    """

    expected: int
    done: list[tuple[str, float, int]] = field(default_factory=list)

    def add(self, scenario: str, seconds: float, swept: int) -> None:
        self.done.append((scenario, seconds, swept))

    def write(self) -> None:
        if len(self.done) < self.expected:
            return
        rows = []
        for name in dict.fromkeys(scenario for scenario, _, _ in self.done):
            mine = [one for one in self.done if one[0] == name]
            rows.append([name, str(len(mine)), str(sum(one[2] for one in mine)), "none"])
        rows.append(["together", str(len(self.done)), str(sum(one[2] for one in self.done)), "none"])
        write_section("kill-points", ["verb", "killed and run again", "orphaned files swept", "failures"], rows)


def write_histories(counts: Mapping[str, int]) -> None:
    """What there was in all histories of a run in which each promise was held."""
    write_section("histories", [*counts, "failures"], [[*map(str, counts.values()), "none"]])


@dataclass
class Faults:
    """The loops on a faulty wire that ended as without a fault.

    Attributes:
        expected: how many must end well for the figures to be written.
    """

    expected: int
    loops: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, *, seed: int, share: float, proxy: FaultyProxy, failures: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> None:
        """One loop; `failures` are the errors of attempts that failed clean, by step."""
        self.loops.append(
            {
                "seed": seed,
                "share": share,
                "requests": proxy.requests,
                "injected": [[kind, method, count] for (kind, method), count in sorted(proxy.injected.items())],
                "kinds": proxy.kinds(),
                "lost_creations": proxy.lost_creations,
                "failed_attempts": {step: [one["type"] for one in errors] for step, errors in failures.items()},
            }
        )

    def json(self) -> str:
        return json.dumps({"commit": commit(), "loops": self.loops}, indent=1) + "\n"

    def write(self) -> None:
        """Write the figures down; a run in which one failed, or that was only a part, writes nothing."""
        if len(self.loops) < self.expected:
            return
        rows = []
        for share in sorted({one["share"] for one in self.loops}):
            found = [one for one in self.loops if one["share"] == share]
            kinds = sum((Counter(one["kinds"]) for one in found), Counter())
            failed = sum(len(errors) for one in found for errors in one["failed_attempts"].values())
            counts = [sum(one["requests"] for one in found), *(kinds[kind] for kind in KINDS)]
            counts += [sum(one["lost_creations"] for one in found), failed]
            rows.append([f"{share:.0%}", str(len(found)), *(f"{count:,}" for count in counts)])
        names = ["share", "loops", "requests", *KINDS, "lost answers to creations", "attempts that failed clean"]
        write_section("faults", names, rows)


def write_section(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Put a table between a section's marks in the file, with the date, the commit and the machine."""
    lines = [_where(), "", _row(header), _row("---" for _ in header), *(_row(row) for row in rows)]
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = FILE.read_text(encoding="utf-8")
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    assert found.search(text), f"{FILE.name} has no section {name}"
    FILE.write_text(found.sub(lambda _: "\n".join([begin, *lines, end]), text), encoding="utf-8")


def _where() -> str:
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in ("xgboost", "distributed"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit() or 'unknown'}: {os.cpu_count()} CPUs, {memory:.0f} GiB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {versions}."
    )


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"
