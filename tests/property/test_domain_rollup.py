"""For any revisions that a cut sees, a piece is made of what a plain comparison of times gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.cut import Visible
from tasks.domain.partition import Partition, partitions
from tasks.domain.rollup import Pieces, Rollup
from tests.support.specs import source

ZONES = ("America/New_York", "Europe/Berlin", "UTC")
GRAINS = ("hour", "day", "week")
FALL = datetime(2013, 11, 2, 12, tzinfo=UTC)  # an hour comes twice in New York


def line(grain: str, zone: str) -> list[Partition]:
    first = Partition.containing(grain, zone, FALL)
    return list(partitions(first, Partition.containing(grain, zone, FALL + timedelta(days=3))))


@st.composite
def shown(draw, grain: str, zone: str) -> Visible:
    keys = [one.key for one in line(grain, zone)]
    kept = [key for key in keys if draw(st.booleans())]
    return Visible(tuple((key, draw(st.integers(1, 3))) for key in kept), (), ())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), grains=st.tuples(*[st.sampled_from(GRAINS)] * 2), zones=st.tuples(*[st.sampled_from(ZONES)] * 2))
def test_a_piece_is_made_of_its_partition_and_of_what_lies_in_the_same_time(data, grains, zones):
    specs = {
        "over": source("over", grain=grains[0], timezone=zones[0]),
        "beside": source("beside", grain=grains[1], timezone=zones[1]),
        "register": source("register", grain="none"),
        "unread": source("unread"),
    }
    rollup = Rollup("r", "over", "", ("over", "beside", "register"), {}, "")
    finder = Pieces(rollup, specs)
    for _ in range(2):  # a second cut, whose pieces may be those of the first
        visible = {
            "over": data.draw(shown(grains[0], zones[0])),
            "beside": data.draw(shown(grains[1], zones[1])),
            "register": Visible((("all", data.draw(st.integers(1, 2))),), (), ()),
            "unread": Visible((("2013-11-02", 1),), (), ()),
        }
        pieces = finder.seen(visible)
        assert [piece.key for piece in pieces] == [key for key, _ in visible["over"].revisions]
        for piece, pair in zip(pieces, visible["over"].revisions, strict=True):
            bounds = specs["over"].partition(piece.key)
            assert (piece.start, piece.end) == (bounds.start, bounds.end)
            beside = tuple(
                other
                for other in visible["beside"].revisions
                if (at := specs["beside"].partition(other[0])).start < bounds.end and at.end > bounds.start
            )
            assert dict(piece.inputs) == {"over": (pair,), "beside": beside, "register": visible["register"].revisions}
        same = {piece.made_of: piece.inputs for piece in pieces}
        assert len(same) == len(pieces)
