"""Work is cut into groups whose inputs fit together."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.grouping import groups

windows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=40)


@given(windows=windows, weights=st.lists(st.integers(0, 50), min_size=40, max_size=40), limit=st.integers(1, 300))
def test_groups_hold_every_item_once_in_order_and_no_more_than_the_limit(windows, weights, limit):
    found = list(
        groups(windows, needs=lambda one: range(one[0], sum(one)), weight=lambda need: weights[need], limit=limit)
    )
    assert [item for group in found for item in group] == windows
    for group in found:
        needed = {need for one in group for need in range(one[0], sum(one))}
        assert len(group) == 1 or sum(weights[need] for need in needed) <= limit
    for group, after in zip(found, found[1:], strict=False):
        needed = {need for one in [*group, after[0]] for need in range(one[0], sum(one))}
        assert sum(weights[need] for need in needed) > limit  # no group could have held the next item too
