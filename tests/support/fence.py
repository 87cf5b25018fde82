"""A Python that sees only what a requirements file brings: for suites that run on machines with nothing else.

`fence` writes a `sitecustomize` that all processes with its folder in PYTHONPATH obey, those that they start too.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = ("benchmarks", "tasks", "tests")

_SITE = '''"""Modules and distributions that are not named here are not there."""
import re
import sys
from importlib.machinery import PathFinder

MODULES = frozenset({modules!r})
PACKAGES = frozenset({packages!r})


class Fence(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        there = top in MODULES or top.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if there else None

    @classmethod
    def find_distributions(cls, *arguments):
        for one in super().find_distributions(*arguments):
            if re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower() in PACKAGES:
                yield one


sys.meta_path[sys.meta_path.index(PathFinder)] = Fence
'''


def packages_of(requirements: Path) -> set[str]:
    """Names of the distributions that pip would install for a requirements file, as far as they are here."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in _lines(requirements)]
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        for asked in ("", *wanted.extras):
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            try:
                needs = distribution(name).requires or []
            except PackageNotFoundError:
                continue
            found.add(name)
            todo += [(Requirement(need), asked) for need in needs]
    return found


def modules_of(packages: set[str]) -> set[str]:
    """Top-level modules of distributions."""
    brought = packages_distributions()
    return {name for name, by in brought.items() if packages & {canonicalize_name(one) for one in by}}


def fence(folder: Path, requirements: Path) -> Path:
    """Write the `sitecustomize` into a folder: to be put first in PYTHONPATH."""
    packages = packages_of(requirements)
    modules = modules_of(packages) | set(sys.stdlib_module_names) | set(OURS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE.format(modules=sorted(modules), packages=sorted(packages)))
    return folder


def _lines(requirements: Path) -> list[str]:
    lines = (re.sub(r"\s*#.*", "", line).strip() for line in requirements.read_text().splitlines())
    return [line for line in lines if line]
