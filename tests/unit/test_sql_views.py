"""A view's id changes with its meaning, not with its layout."""

import pytest

from tasks.sql.views import canonical, view_id
from tests.support.specs import pipeline, source

SQL = """
-- the delay of the day before
SELECT e.id, avg(h.x) AS f -- mean
FROM entities AS e /* rows
to be scored */ LEFT JOIN truth AS h USING (id)
GROUP BY e.id;
"""


def test_comments_and_layout_make_no_new_view():
    flat = "SELECT e.id,avg(h.x) AS f FROM entities AS e LEFT JOIN truth AS h USING(id) GROUP BY e . id"
    assert view_id(SQL, pipeline()) == view_id(flat, pipeline())


@pytest.mark.parametrize(
    ("old", "new"),
    [("avg", "max"), ("AS f", "AS g"), ("LEFT JOIN", "JOIN"), ("USING (id)", "ON e.id = h.id AND h.x > 1")],
)
def test_another_meaning_makes_a_new_view(old, new):
    assert view_id(SQL, pipeline()) != view_id(SQL.replace(old, new), pipeline())


def test_spaces_and_comment_marks_inside_of_texts_count():
    one, other = "SELECT 'a  b' AS f", "SELECT 'a b' AS f"
    assert canonical(one) != canonical(other)
    assert canonical("SELECT 'a -- b', \"c /* d\" -- e") == "SELECT 'a -- b' , \"c /* d\""
    assert canonical("SELECT $$a -- b$$ , $t$ $$ $t$,e'it\\'s --'") == "SELECT $$a -- b$$ , $t$ $$ $t$ , e'it\\'s --'"


@pytest.mark.parametrize(
    "sql",
    ["SELECT a- -b", "SELECT 'a'\n'b'", "SELECT 1.5, .5, 1e5, x::int, l[1:2], a->>'b'", "SELECT /* /* nested */ */ 1"],
)
def test_a_text_whose_meaning_layout_would_change_stays_as_it_is(sql):
    from tasks.sql.syntax import parse, without_locations

    assert without_locations(parse(canonical(sql), file="f")) == without_locations(parse(sql, file="f"))


@pytest.mark.parametrize(
    "changes",
    [
        {"lookback": "6d"},
        {"as_of": "start+3h"},
        {"timezone": "UTC"},
        {"entity": ("id", "x")},
        {"grain": "hour", "as_of": "start+3h", "deadline": "end+5h"},
    ],
)
def test_what_the_spec_says_about_the_cut_makes_a_new_view(changes):
    assert view_id(SQL, pipeline()) != view_id(SQL, pipeline(**changes))


def test_another_column_type_or_time_of_a_source_makes_a_new_view():
    def with_truth(**changes) -> str:
        sources = {"rows": source("rows", available="start-6h", time="seen"), "truth": source("truth", **changes)}
        return view_id(SQL, pipeline(sources))

    ids = {
        with_truth(),
        with_truth(available="end+1h"),
        with_truth(columns={"id": "string", "x": "int", "seen": "timestamp"}),
        with_truth(columns={"x": "float", "id": "string", "seen": "timestamp"}),
        with_truth(columns={"id": "string", "x": "float", "seen": "timestamp", "y": "float"}),
    }
    assert len(ids) == 5


def test_training_and_gate_make_no_new_view():
    assert view_id(SQL, pipeline()) == view_id(
        SQL, pipeline(train={"rounds": 7}, gate={"min_gain": 0.1}, end="2013-12-31")
    )


def test_an_id_is_twelve_hex_digits():
    assert len(view_id(SQL, pipeline())) == 12
    int(view_id(SQL, pipeline()), 16)
