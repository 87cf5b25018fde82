"""Import a module with all that it imports later, within its functions: `python -P -m tests.support.import_all MODULE FOLLOW…`.

FOLLOW are beginnings of the modules' names in which imports within functions are looked for. Prints what was looked through.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


def import_all(first: str, follow: tuple[str, ...]) -> set[str]:
    """Names of the modules that were looked through.

    Raises:
        ImportError: one of the imports fails.
    """
    importlib.import_module(first)
    through: set[str] = set()
    while left := {name for name in sys.modules if name.startswith(follow)} - through:
        for name in left:
            through.add(name)
            source = getattr(sys.modules[name], "__file__", None)
            for wanted in _imports(ast.parse(Path(source).read_text())) if source else ():
                importlib.import_module(wanted)
    return through


def _imports(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", None) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            inner = (f"{child.module}.{alias.name}" for alias in child.names)
            if child.module.startswith(("benchmarks", "tasks", "tests")):
                yield from (name for name in inner if _is_module(name))
        yield from _imports(child)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # what it would lie in is no package
        return False


if __name__ == "__main__":
    print("\n".join(sorted(import_all(sys.argv[1], tuple(sys.argv[2:])))))
