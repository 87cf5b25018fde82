"""Work in groups whose inputs fit in memory together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")
_Need = TypeVar("_Need", bound=Hashable)


def groups(
    items: Iterable[_Item],
    *,
    needs: Callable[[_Item], Collection[_Need]],
    weight: Callable[[_Need], int],
    limit: int,
) -> Iterator[list[_Item]]:
    """Consecutive items whose needs, each counted once for a group, weigh at most `limit` together.

    An item that alone weighs more is a group of its own.
    """
    group: list[_Item] = []
    held: set[_Need] = set()
    total = 0
    for item in items:
        wanted = set(needs(item))
        more = sum(weight(need) for need in wanted - held)
        if group and total + more > limit:
            yield group
            group, held, total = [], set(), 0
            more = sum(weight(need) for need in wanted)
        group.append(item)
        held |= wanted
        total += more
    if group:
        yield group
