"""Imports put off until something is asked of them, for libraries that import more than they use."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Within the block, importing one of these modules costs nothing; its first use imports it.

    Whoever imports one meanwhile holds a stand-in that looks everything up in the real module, forever:
    `from name import thing` imports it at once, and so does deriving a class from one of its classes. After
    the block, and for a module that is already imported or not installed, imports are the usual ones.

    The standard library's LazyLoader doesn't serve: since it loads on any access, and `import name` reads
    the module's `__spec__`, the second import of a lazy module is its first use.
    """
    standing = {}
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name) is not None:
            standing[name] = sys.modules[name] = _Deferred(name)
    try:
        yield
    finally:
        for name, stand_in in standing.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


class _Deferred(ModuleType):
    """Stands for a module that is imported when an attribute of it is read."""

    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)
