"""Figures as text: a part's table on the terminal, and RESULTS.md from all that was measured.

What stands in RESULTS.md between the two marks is written here from `measured/*.json`; what stands around
them is written by hand.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measure import REPOSITORY, Part, cores

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
MEASURED = HERE / "measured"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"
GPU = "gpu"
"""The part that `benchmarks.gpu --keep` writes, on another machine."""
_PACKAGES = (
    "xgboost",
    "pyarrow",
    "duckdb",
    "deltalake",
    "great-expectations",
    "mlflow",
    "apache-airflow",
    "dask",
    "dask-cuda",
)


def show(part: Part) -> None:
    """Print a part."""
    print("\n".join([*_table(part.figures), "", *_sides(part)]))


def keep(name: str, part: Part, *, seconds: float) -> None:
    """Keep a part's figures, with the machine, the versions and the moment."""
    MEASURED.mkdir(exist_ok=True)
    facts = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "seconds": round(seconds), **machine()}
    text = json.dumps({**facts, "part": _rounded(part.to_dict())}, indent=1, ensure_ascii=False)
    (MEASURED / f"{name}.json").write_text(text + "\n")


def write(order: tuple[str, ...]) -> None:
    """Write what was measured into RESULTS.md."""
    kept = {name: json.loads((MEASURED / f"{name}.json").read_text()) for name in order if _there(name)}
    parts = {name: Part.from_dict(one["part"]) for name, one in kept.items()}
    lines = [""] + _table([figure for part in parts.values() for figure in part.figures]) if parts else []
    for name, part in parts.items():
        facts = kept[name]
        lines += ["", f"### {name}", ""]
        lines += [
            f"{facts['date']}, commit {facts['commit']}, {facts['seconds']} s; {facts['machine']}; {facts['versions']}.",
            "",
        ]
        lines += _sides(part)
    before, _, rest = RESULTS.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    RESULTS.write_text("\n".join([before + BEGIN, *lines, "", END + after]))


def machine() -> dict[str, str]:
    """What this was measured on; no names of hosts."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    total = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    versions = ", ".join(filter(None, map(_version, _PACKAGES)))
    ran = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    return {
        "machine": f"{cores()} cores of {model}, {total:.0f} GB",
        "versions": f"Python {platform.python_version()}, {versions}",
        "commit": ran.stdout.strip() or "unknown",
    }


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # the GPU suite carries few
        return ""


def _table(figures) -> list[str]:
    lines = ["| what | against | target | median (least to most) | rounds | met |", "|---|---|---|---|---|---|"]
    for one in figures:
        met = {True: "yes", False: "**no**", None: ""}[one.met]
        lines.append(
            f"| {one.what} | {one.against} | {one.target} | {_spread(one.values, one.unit)} | {len(one.values)} | {met} |"
        )
    return lines


def _sides(part: Part) -> list[str]:
    units = list(dict.fromkeys(unit for values in part.sides.values() for unit in values))
    lines = [f"- {sentence}." for sentence in part.said]
    if units:
        lines += ["", f"| side | {' | '.join(units)} |", f"|---|{'---|' * len(units)}"]
        for side, values in part.sides.items():
            cells = [_spread(values[unit]) if unit in values else "" for unit in units]
            lines.append(f"| {side} | {' | '.join(cells)} |")
    return lines


def _spread(values, unit: str = "") -> str:
    numbers = [_number(one) for one in (statistics.median(values), min(values), max(values))]
    return f"{numbers[0]}{unit}" + (f" ({numbers[1]} to {numbers[2]})" if len(values) > 1 else "")


def _number(value: float) -> str:
    if value and abs(value) < 0.001:
        return f"{value:.1g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _there(name: str) -> bool:
    return (MEASURED / f"{name}.json").exists()
