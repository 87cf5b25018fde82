"""How an entity is named on the command line."""

import pytest

from tasks.command.explain import entity_of
from tasks.errors import UsageError


@pytest.mark.parametrize(
    ("columns", "text", "found"),
    [
        (["flight_id"], "AA-1,b=2", {"flight_id": "AA-1,b=2"}),
        (["flight_id"], "flight_id=AA-1", {"flight_id": "AA-1"}),
        (["flight_id"], "x=1", {"flight_id": "x=1"}),
        (["a", "b"], "a=1,b=2", {"a": "1", "b": "2"}),
        (["a", "b"], "b=x,y z,a=p=q", {"b": "x,y z", "a": "p=q"}),
        (["a", "b"], "a=,b=2", {"a": "", "b": "2"}),
    ],
)
def test_an_entity_is_its_columns_value_or_all_of_its_columns(columns, text, found):
    assert entity_of(columns, text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("17", "'17' is no column of the entity"),
        ("shop=1,ordr=2", "'ordr' is no column of the entity .shop, order..*did you mean 'order'"),
        ("shop=1", "order is left out"),
        ("shop=1,order=2,shop=3", "'shop' is named twice"),
    ],
)
def test_a_wrong_entity_is_told_with_what_is_expected(text, said):
    with pytest.raises(UsageError, match=said):
        entity_of(["shop", "order"], text)
