"""One item ahead: what makes items and what uses them work at the same time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Generator[T], *, name: str) -> Iterator[T]:
    """The items of a generator, which runs in a thread of its own while the one before is being used.

    Of a chain of them each stage holds two items at most: memory does not grow with their number. Errors come
    out where the item would have.

    Args:
        items: is closed in its thread when the iteration ends, early too.
        name: the thread's, for the eyes of an operator.
    """
    with ThreadPoolExecutor(1, thread_name_prefix=name) as pool:
        upcoming = pool.submit(next, items, _END)
        try:
            while (item := upcoming.result()) is not _END:
                upcoming = pool.submit(next, items, _END)
                yield item
                del item  # not while the next one is waited for
        finally:
            pool.submit(items.close).result()
