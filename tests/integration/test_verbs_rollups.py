"""A rollup is computed once for each source partition, shows each cut what the cut may see, and changes no feature."""

from __future__ import annotations

import csv
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tasks.command.check import check
from tasks.command.maintain import table_names
from tasks.command.outside import Outside
from tasks.command.steps import Steps
from tasks.domain import tables
from tasks.domain.partition import Partition, span
from tasks.domain.run import RunRef
from tasks.featurize import featurize
from tasks.lake.views import load_view
from tasks.maintain import pipeline_tables
from tasks.settings import load_pipeline, load_source
from tasks.validate import validate
from tests.support.dask_processes import dask_processes
from tests.support.pipelines import deliver, write_config, write_rollups
from tests.support.project import Project, make_project, with_settings

PLAIN, ROLLED = "by_sql", "by_rollup"
DAYS = "2024-01-06..2024-01-20"

OUTER = """
select e.order_id, e.amount, h.orders, h.late, h.late / h.orders as rate, h.middle, h.days, s.size
from entities e left join history h using (shop) left join shops s using (shop)
"""
BY_SQL = f"""
with history as (
    select shop, count(*) as orders, sum(late::int) as late, median(amount) as middle, count(distinct o._partition) as days
    from orders o join arrivals using (order_id) group by shop
) {OUTER}
"""
BY_ROLLUP = f"""
with history as (
    select shop, sum(orders) as orders, sum(late) as late, count(*) as days,
        (select median(amount) from amounts where amounts.shop = past.shop) as middle
    from past group by shop
) {OUTER}
"""
PAST = (
    "select shop, count(*) as orders, sum(late::int) as late from orders join arrivals using (order_id) group by shop"
)
AMOUNTS = "select shop, amount from arrivals join orders using (order_id)"
FROM_DRIVER = "select shop, max(amount) as most, partition_start() as day from orders group by shop"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two pipelines with the same features, one through rollups; three weeks of January, clean. Copy before use."""
    return make_both(tmp_path_factory.mktemp("loaded"))


@pytest.fixture
def both(loaded: Project, tmp_path: Path) -> Project:
    return loaded.copy(tmp_path)


def make_both(folder: Path, *, live: bool = False) -> Project:
    config = write_config(folder / "config", PLAIN, ROLLED, live=live)
    (config / "pipelines" / PLAIN / "features.sql").write_text(BY_SQL)
    rolled = config / "pipelines" / ROLLED
    (rolled / "features.sql").write_text(BY_ROLLUP)
    write_rollups(rolled, past=("arrivals", PAST), amounts=("arrivals", AMOUNTS))
    project = make_project(folder)
    deliver(project.incoming, date(2024, 1, 1), date(2024, 1, 21))
    for file in project.incoming.glob("*/*.csv"):  # each arrived long before its declared moment
        os.utime(file, (0, 0))
    project.load({"orders": "2024-01-01..2024-01-21", "arrivals": "2024-01-01..2024-01-20", "shops": "all"})
    return project


def featurized(
    project: Project,
    name: str,
    days: str,
    *,
    snapshots: dict[str, int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[dict], str]:
    """The features of days as the tables stand, or stood, at the version that is handed on; and the view's id."""
    spec = load_pipeline(project.settings.config, name)
    steps = Steps(project.settings, RunRef(uuid.uuid4().hex, 1, "tester"), lambda text: None, progress)
    view = steps.view(spec, project.lake)
    wanted: Sequence[Partition] = span(spec.grain, spec.timezone, days)
    result = featurize(
        spec=spec,
        partitions=wanted,
        views={view: [one.key for one in wanted]},
        snapshots=snapshots or versions(project),
        lake=project.lake,
        run=steps.run,
        threads=2,
        rows_at_a_time=project.settings.feature_rows,
        progress=progress,
    )
    assert [one.key for one in result.partitions] == [one.key for one in wanted]
    table = tables.features(name, view)
    rows = project.table(table).read(version=result.versions[table], keys=[(one.key,) for one in wanted])
    return sorted(rows.to_pylist(), key=lambda row: json.dumps(row, sort_keys=True)), view


def versions(project: Project) -> dict[str, int]:
    return {tables.clean(name): project.version(tables.clean(name)) for name in ("orders", "arrivals", "shops")}


def pieces(project: Project, view: str, name: str = "past"):
    """The table of a rollup."""
    rollup = load_view(project.lake, ROLLED, view)["rollups"][name]
    return project.table(tables.rollup(ROLLED, rollup["id"]))


def restate(project: Project, day: date, *, at: datetime) -> None:
    """Another delivery of a day's arrivals, which came at a moment: all of them late."""
    file = project.incoming / "arrivals" / f"{day}.csv"
    with file.open() as stream:
        rows = list(csv.reader(stream))
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([rows[0], *[[order, "true"] for order, _ in rows[1:]]])
    os.utime(file, (at.timestamp(), at.timestamp()))
    project.run("ingest", "arrivals", str(day))
    source = load_source(project.settings.config, "arrivals")
    run = RunRef("restated", 1, "tester")
    validate(
        source=source,
        partitions=[source.partition(str(day))],
        contract=None,
        lake=project.lake,
        run=run,
        clock=lambda: at,
        progress=lambda done, total: None,
    )


def test_features_through_rollups_are_those_of_the_plain_sql(both: Project):
    plain, _ = featurized(both, PLAIN, DAYS)
    rolled, _ = featurized(both, ROLLED, DAYS)
    assert rolled == plain
    assert len(rolled) == 15 * 40 and {row["days"] for row in rolled} == {3}


def test_a_day_of_its_own_computes_the_one_piece_that_is_new(both: Project):
    _, view = featurized(both, ROLLED, "2024-01-10")
    first = pieces(both, view).entries()
    assert [key for key, _ in first] == ["2024-01-07", "2024-01-08", "2024-01-09"]
    featurized(both, ROLLED, "2024-01-11")
    second = pieces(both, view).entries()
    assert [key for key, _ in second] == ["2024-01-07", "2024-01-08", "2024-01-09", "2024-01-10"]
    assert pieces(both, view).name in pipeline_tables(ROLLED, both.lake)  # which `maintain` goes through
    assert [second[key].version for key in first] == [entry.version for entry in first.values()]
    assert list(second.values())[-1].meta["made_of"] == {"arrivals": [["2024-01-10", 1]], "orders": [["2024-01-10", 1]]}


def test_a_restated_partition_has_a_piece_for_each_cut_that_sees_it_differently(tmp_path):
    both = make_both(tmp_path, live=True)
    known, view = featurized(both, ROLLED, "2024-01-11..2024-01-12")
    restate(both, date(2024, 1, 9), at=datetime(2024, 1, 11, 12, tzinfo=UTC))  # after the cut of the eleventh
    seen, _ = featurized(both, ROLLED, "2024-01-11..2024-01-12")
    assert [row for row in seen if row["partition_key"] == "2024-01-11"] == [
        row for row in known if row["partition_key"] == "2024-01-11"
    ]
    assert seen != known
    assert seen == featurized(both, PLAIN, "2024-01-11..2024-01-12")[0]
    ninth = [entry.meta["made_of"] for (key, _), entry in pieces(both, view).entries().items() if key == "2024-01-09"]
    assert sorted(one["arrivals"] for one in ninth) == [[["2024-01-09", 1]], [["2024-01-09", 2]]]


def test_a_partition_that_came_late_is_in_no_piece_of_a_cut_before_it(both: Project):
    project = both
    for name in ("orders", "arrivals"):
        source = project.settings.config / "sources" / name / "source.yaml"
        source.write_text(source.read_text() + f"manifest: '{{landing}}/{name}.json'\n")
    shutil.rmtree(project.settings.home / "lake")
    moments = {str(date(2024, 1, day)): f"2024-01-{day + 1:02}T07:00:00Z" for day in range(1, 22)}
    late = moments | {"2024-01-08": "2024-01-11T20:00:00Z"}  # known three days late
    for name, known in {"orders": moments, "arrivals": late}.items():
        (project.incoming / f"{name}.json").write_text(json.dumps(known))
    project.load({"orders": "2024-01-01..2024-01-21", "arrivals": "2024-01-01..2024-01-20", "shops": "all"})
    plain, _ = featurized(project, PLAIN, DAYS)
    rolled, _ = featurized(project, ROLLED, DAYS)
    assert rolled == plain


def test_a_range_that_needs_more_than_may_be_held_is_computed_in_groups_to_the_same_features(both: Project):
    whole, view = featurized(both, ROLLED, DAYS)
    few = with_settings(make_copy(both), feature_rows=200)
    assert featurized(few, ROLLED, DAYS)[0] == whole
    # a day's 40 orders, 5 shops and 135 rows of rollups: no two days fit, and each is a commit
    assert few.version(tables.features(ROLLED, view)) == 15
    assert both.version(tables.features(ROLLED, view)) == 1


def test_a_run_that_is_overtaken_in_every_group_takes_what_the_others_computed(both: Project):
    few = with_settings(both, feature_rows=1)
    days = [one.key for one in span("day", "America/New_York", DAYS)]
    overtaken = []

    def overtake(done: int, total: int) -> None:
        day = days[done - 1]
        if day not in overtaken:
            overtaken.append(day)
            featurized(few, ROLLED, day)

    rows, _ = featurized(few, ROLLED, DAYS, progress=overtake)
    assert overtaken == days
    assert rows == featurized(both, PLAIN, DAYS)[0]


def test_what_another_run_overwrites_between_two_groups_is_not_handed_on(tmp_path):
    both = make_both(tmp_path, live=True)
    few = with_settings(both, feature_rows=1)
    pinned, two = versions(both), "2024-01-11..2024-01-12"
    known, _ = featurized(both, PLAIN, two)
    once: list[int] = []

    def overwrite(done: int, total: int) -> None:
        if done == 2 and not once:  # the first day's group is committed
            once.append(done)
            restate(both, date(2024, 1, 9), at=datetime(2024, 1, 10, 12, tzinfo=UTC))
            assert featurized(few, ROLLED, "2024-01-11")[0] != [one for one in known if one["partition_key"][-1] == "1"]

    assert featurized(few, ROLLED, two, snapshots=pinned, progress=overwrite)[0] == known
    assert once


def test_maintenance_of_the_others_goes_on_beside_a_view_that_is_torn(both: Project, capsys):
    _, view = featurized(both, ROLLED, "2024-01-10")
    views = both.settings.home / "lake" / ROLLED / "views"
    (views / ".DS_Store").write_bytes(b"x")
    name = pieces(both, view).name
    assert name in table_names(both.settings, [], both.lake)
    (views / "abc.json").write_text("{")
    named = table_names(both.settings, [], both.lake)
    assert name not in named and tables.clean("orders") in named
    assert "abc.json is no JSON" in capsys.readouterr().err


def make_copy(project: Project) -> Project:
    """The same sources, with nothing computed from them yet."""
    copy = project.copy(project.folder.with_name(f"{project.folder.name}-copy"))
    shutil.rmtree(copy.settings.home / "lake" / ROLLED)
    return copy


def test_workers_of_an_outside_scheduler_compute_the_same_features(both: Project, tmp_path: Path):
    """Each chunk needs the pieces of the days before it too, so the two workers race for some."""
    (tmp_path / "dask").mkdir()
    spec = load_pipeline(both.settings.config, ROLLED)
    wanted = span(spec.grain, spec.timezone, DAYS)
    with dask_processes(tmp_path / "dask", workers=2) as workers:
        settings = with_settings(both, dask_scheduler=workers.address).settings
        run, told = RunRef(uuid.uuid4().hex, 1, "tester"), []
        view = Steps(settings, run, told.append, lambda done, total: None).view(spec, both.lake)
        views = {view: [one.key for one in wanted]}
        outside = Outside(settings, run, told.append, lambda done, total: None)
        assert outside.featurize(spec, both.lake, wanted, views, versions(both)) == 15
    assert any(
        text.startswith("featurize: 15 partitions in ") and text.endswith(" on 2 Dask workers") for text in told
    ), told
    days = [key for key, _ in pieces(both, view).entries()]
    assert days == [one.key for one in span(spec.grain, spec.timezone, "2024-01-03..2024-01-19")]
    before = both.objects()
    assert featurized(both, ROLLED, DAYS)[0] == featurized(both, PLAIN, DAYS)[0]
    assert {name for name in both.objects().keys() - before.keys() if name.startswith(ROLLED)} == set()


def test_a_rollup_may_follow_the_source_that_drives(both: Project):
    folder = both.settings.config / "pipelines" / ROLLED
    text = (folder / "pipeline.yaml").read_text()
    (folder / "pipeline.yaml").write_text(text.replace("rollups: {", "rollups: {most: orders, "))
    (folder / "rollups" / "most.sql").write_text(FROM_DRIVER)
    (folder / "features.sql").write_text(
        "select e.order_id, m.most, m.seen, m.known from entities e left join (select shop, max(most) as most,"
        " count(*) as seen, date_diff('hour', max(_known_at), as_of()) as known from most"
        " where day < partition_start() group by shop) m using (shop)"
    )
    rows, _ = featurized(both, ROLLED, "2024-01-10")
    assert {row["seen"] for row in rows} == {3}
    assert {row["known"] for row in rows} == {34}  # the orders of the ninth are known at six on the eighth's evening


def test_check_names_the_rollup_that_is_wrong(both: Project):
    def problem(sql: str) -> str:
        (both.settings.config / "pipelines" / ROLLED / "rollups" / "past.sql").write_text(sql)
        ((_, _, text),) = check(both.settings, [ROLLED])
        return text

    assert problem(PAST) == ""
    assert "rollups/past.sql" in problem(PAST.replace("late::int", "lateness::int"))
    assert "as_of() is not allowed in a rollup" in problem(PAST.replace("count(*)", "max(as_of())"))
    assert "does not read 'arrivals'" in problem("select shop from orders")
    assert "there is no view 'entities'" in problem("select shop from entities, arrivals")
    assert "can't be called '_x'" in problem("select order_id as _x from arrivals")
    assert "comes out twice" in problem("select order_id, order_id from arrivals")
    (both.settings.config / "pipelines" / ROLLED / "rollups" / "past.sql").unlink()
    assert "there is no file 'rollups/past.sql'" in check(both.settings, [ROLLED])[0][2]


@pytest.mark.parametrize(
    ("rollups", "message"),
    [
        ("{orders: arrivals}", "'orders' is the name of another view"),
        ("{entities: arrivals}", "'entities' is the name of another view"),
        ("{past: shops}", "expected a source with partitions"),
        ("{past: arrival}", "expected a source with partitions"),
    ],
)
def test_a_rollup_that_can_not_be_is_refused_with_the_key(both: Project, rollups: str, message: str):
    spec = both.settings.config / "pipelines" / ROLLED / "pipeline.yaml"
    spec.write_text(spec.read_text().rpartition("rollups:")[0] + f"rollups: {rollups}\n")
    assert message in check(both.settings, [ROLLED])[0][2]
