"""The leak check: what is planted is found and named, what is honest passes, and nothing with a leak is promoted."""

from __future__ import annotations

import csv
import json
import re
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.command.leaks import check_leaks, version_without_leaks
from tasks.domain import cut
from tasks.domain.cut import Visible
from tasks.domain.leaks import LeaksResult
from tasks.domain.run import RunRef
from tasks.errors import LeakError, NotReadyError, VacuumedError
from tasks.lake.vacuum import vacuum
from tasks.lake.versions import load_version
from tasks.lake.views import view_key
from tasks.settings import load_pipeline
from tasks.sql.slices import Slices
from tests.support.pipelines import deliver, write_config
from tests.support.project import Project, make_project
from tests.support.rows import later, replace_again

FIRST, LAST = date(2024, 1, 1), date(2024, 1, 12)
HONEST = """
with past as (select shop, avg(late::int) as rate, count(*) as orders from arrivals join orders using (order_id) group by shop)
select e.order_id, e.amount, s.size, p.rate, p.orders from entities e left join shops s using (shop) left join past p using (shop)
"""
ROLLED = HONEST.replace(
    "avg(late::int) as rate, count(*) as orders from arrivals join orders using (order_id)",
    "sum(late) / sum(orders) as rate, sum(orders) as orders from daily",
)
DAILY = (
    "select shop, sum(late::int) as late, count(*) as orders from arrivals join orders using (order_id) group by shop"
)
WEATHER = """
grain: day
timezone: America/New_York
uri: "{landing}/weather/{partition}.csv"
start: 2024-01-01
history: 2025-01-01
columns: {shop: string, seen: timestamp, rain: float}
"""
RAIN = """
select e.order_id, e.amount, w.rain from entities e
left join (select shop, max(rain) as rain from weather group by shop) w using (shop)
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Twelve days, clean, with the day's weather and every visit of the year beside them. Copy before use."""
    folder = tmp_path_factory.mktemp("leaks")
    write_config(folder / "config", "late_orders")
    project = make_project(folder)
    deliver(project.incoming, FIRST, LAST)
    reference = "grain: none\nuri: '{landing}/visits.csv'\ncolumns: {shop: string, seen: timestamp}\n"
    declare(project, visits=reference, weather=WEATHER + "available: start-6h\n")
    days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
    visits = [f"s{day.day * 7 % 5},{day}T15:00:00Z" for day in days]
    project.write("visits.csv", "\n".join(["shop,seen", *visits]) + "\n")
    for day in days:
        rows = [f"s{shop},{day}T{hour:02}:00:00Z,{day.day + shop + hour / 24}" for shop in range(5) for hour in (6, 20)]
        project.write(f"weather/{day}.csv", "\n".join(["shop,seen,rain", *rows]) + "\n")
    plant_the_label(project)
    every = f"{FIRST}..{LAST}"
    project.load({"orders": every, "arrivals": every, "weather": every, "shops": "all", "visits": "all"})
    return project


@pytest.fixture
def project(loaded: Project, tmp_path: Path) -> Project:
    return loaded.copy(tmp_path)


def declare(project: Project, **sources: str) -> None:
    for name, text in sources.items():
        part = project.settings.config / "sources" / name
        part.mkdir(exist_ok=True)
        (part / "source.yaml").write_text(text)


def plant_the_label(project: Project) -> None:
    """Orders come with a column `happened` that says what will become of them; honest features leave it alone."""
    part = project.settings.config / "sources" / "orders" / "source.yaml"
    part.write_text(part.read_text().replace("amount: float", "amount: float, happened: bool"))
    for file in (project.incoming / "orders").glob("*.csv"):
        truth = dict(csv.reader((project.incoming / "arrivals" / file.name).read_text().splitlines()))
        header, *rows = csv.reader(file.read_text().splitlines())
        lines = [[*header, "happened"], *([*row, truth[row[0]]] for row in rows)]
        file.write_text("".join(",".join(line) + "\n" for line in lines))


def look(project: Project, sql: str, *sources: str, spec: str = "", partitions: int = 1) -> LeaksResult:
    """The check of a pipeline with this SQL and these further sources."""
    part = project.settings.config / "pipelines" / "late_orders"
    text = (part / "pipeline.yaml").read_text()
    more = "".join(f", {name}: " for name in sources)
    (part / "pipeline.yaml").write_text(text.replace("shops: }", f"shops: {more}}}") + spec)
    (part / "features.sql").write_text(sql)
    return check_leaks(project.settings, "late_orders", run=RunRef("check", 1, "tester"), count=partitions)


def test_an_honest_pipeline_passes_and_its_lake_is_left_as_it_was(project: Project):
    before = project.objects()
    found = look(project, HONEST, partitions=2)
    assert found.leaks == () and len(found.partitions) == 2
    assert found.labelled == 6 * 40
    assert project.objects() == before
    assert not [path for path in (project.settings.home / "cache" / "leaks").iterdir()]
    assert look(project, HONEST, partitions=2) == found


def test_a_pipeline_with_rollups_passes(project: Project):
    part = project.settings.config / "pipelines" / "late_orders"
    (part / "rollups").mkdir()
    (part / "rollups" / "daily.sql").write_text(DAILY)
    found = look(project, ROLLED, spec="rollups: {daily: arrivals}\n", partitions=2)
    assert found.leaks == () and len(found.partitions) == 2


def test_a_label_among_the_features_is_named(project: Project):
    leaks = look(project, "select order_id, amount, happened::int as risk from entities").leaks
    assert {(one.kind, one.feature, one.column) for one in leaks} == {("label", "risk", ""), ("label", "risk", "late")}
    assert any("feature 'risk' is the label, in all 120 rows" in one.text for one in leaks)
    assert any("feature 'risk' is column 'late' of 'arrivals', which only outcomes carry" in one.text for one in leaks)
    assert any("feature 'risk' alone reaches auc 1.000" in one.text for one in leaks)


def test_a_join_without_a_time_bound_is_named(project: Project):
    sql = """
    select e.order_id, e.amount, v.visits from entities e
    left join (select shop, count(*) as visits from visits BOUND group by shop) v using (shop)
    """
    leaks = look(project, sql.replace("BOUND", ""), "visits").leaks
    assert {(one.kind, one.feature, one.source, one.column) for one in leaks} == {("time", "visits", "visits", "seen")}
    assert "they count as known always" in leaks[0].text and "with seen 2024-01-" in leaks[0].text
    assert look(project, sql.replace("BOUND", "where seen <= as_of()")).leaks == ()


def test_todays_weather_for_today_is_named(project: Project):
    leaks = look(project, RAIN, "weather").leaks
    assert {(one.kind, one.feature, one.source, one.column) for one in leaks} == {("time", "rain", "weather", "seen")}
    day = leaks[0].partition
    assert f"late_orders {day}: feature 'rain' differs in 40 of 40 rows" in leaks[0].text
    assert f"one in partition {day} with seen {day} 20:00:00+00:00, and it counts" in leaks[0].text
    source = project.settings.config / "sources" / "weather" / "source.yaml"
    source.write_text(source.read_text() + "ahead: [seen]\n")  # a forecast, which may know so much
    assert look(project, RAIN).leaks == ()


def test_a_day_that_has_not_ended_is_named_where_its_rows_have_no_times(project: Project):
    declare(project, weather=(WEATHER + "available: start-6h\n").replace(", seen: timestamp", ""))
    leaks = look(project, RAIN, "weather").leaks
    assert {(one.kind, one.feature, one.source, one.column) for one in leaks} == {("time", "rain", "weather", "")}
    assert "which had not ended" in leaks[0].text


def reload_arrivals(project: Project, known_at: dict[str, str]) -> None:
    """The arrivals again, with a manifest that says when they were known."""
    source = project.settings.config / "sources" / "arrivals" / "source.yaml"
    source.write_text(source.read_text() + "manifest: '{landing}/known.json'\n")
    project.write("known.json", json.dumps(known_at))
    shutil.rmtree(project.settings.home / "lake" / "sources" / "arrivals")
    project.load({"arrivals": f"{FIRST}..{LAST}"})


def test_a_manifest_that_has_the_label_known_before_it_happened_is_named(project: Project):
    reload_arrivals(project, {f"2024-01-{day:02}": "2023-12-31T00:00:00Z" for day in range(1, 13)})
    found = look(project, HONEST)
    (label,) = [one for one in found.leaks if one.kind == "label"]
    assert label.text.startswith(
        f"late_orders {label.partition}: arrivals/{label.partition}, the partition's own label"
    )
    untimely = {(one.feature, one.source) for one in found.leaks if one.kind == "time"}
    assert untimely == {("rate", "arrivals"), ("orders", "arrivals")}  # of days that had not ended


def test_a_file_that_came_late_and_was_waited_for_is_no_leak(project: Project):
    day = look(project, HONEST).partitions[0]
    before = str(date.fromisoformat(day) - timedelta(days=1))
    reload_arrivals(project, {before: "2024-02-01T00:00:00Z"})
    found = look(project, HONEST)
    assert (found.partitions, found.leaks) == ((day,), ())


def without_known_at(spec, partition, deliveries):
    newest = {name: [(key, every[-1].revision) for key, every in deliveries[name].items()] for name in spec.sources}
    return {name: Visible(tuple(sorted(pairs)), (), ()) for name, pairs in newest.items()}


def with_longer_lookback(spec, partition, deliveries):
    return visible_sources(spec.model_copy(update={"lookback": type(spec.lookback)(days=9)}), partition, deliveries)


def awaiting_everything(spec, partition, deliveries):
    found = visible_sources(spec, partition, deliveries)
    seen = found["arrivals"]
    more = seen.revisions + ((partition.key, 1),) if partition.key in deliveries["arrivals"] else seen.revisions
    missing = () if partition.key in deliveries["arrivals"] else (partition.key,)
    return found | {"arrivals": Visible(more, missing, (partition.key,))}


visible_sources = cut.visible_sources


@pytest.mark.parametrize("mutant", [without_known_at, with_longer_lookback, awaiting_everything])
def test_a_cut_that_shows_too_much_is_found(project: Project, monkeypatch: pytest.MonkeyPatch, mutant):
    monkeypatch.setattr(cut, "visible_sources", mutant)
    leaks = look(project, HONEST).leaks
    cuts = [one for one in leaks if one.kind == "cut"]
    assert cuts and all("arrivals" in one.source.split(", ") for one in cuts), leaks
    if mutant is without_known_at:
        assert {one.feature for one in cuts} == {"rate", "orders"}
        assert "the cut shows" in cuts[0].text and "arrivals 2024-01-01 to 2024-01-12, not " in cuts[0].text


def test_a_view_that_shows_rows_of_other_cuts_is_found(project: Project, monkeypatch: pytest.MonkeyPatch):
    view = Slices.view

    def leaking(self, visible):
        return self._table if "late" in self._table.column_names else view(self, visible)

    monkeypatch.setattr(Slices, "view", leaking)
    cuts = [one for one in look(project, HONEST, partitions=2).leaks if one.kind == "cut"]
    assert {one.feature for one in cuts} == {"rate", "orders"}
    assert all("other rows of the same partitions" in one.text for one in cuts)


def test_without_any_partition_there_is_nothing_to_check(tmp_path: Path):
    write_config(tmp_path / "config", "late_orders")
    with pytest.raises(NotReadyError, match="nothing to check"):
        check_leaks(make_project(tmp_path).settings, "late_orders", run=RunRef("check", 1, "tester"))


def test_the_command_says_what_it_found_and_what_to_do(project: Project):
    part = project.settings.config / "pipelines" / "late_orders"
    (part / "features.sql").write_text(RAIN)
    (part / "pipeline.yaml").write_text((part / "pipeline.yaml").read_text().replace("shops: }", "shops: , weather: }"))
    ended = project.command("check", "--leaks", "late_orders", "--partitions", "1", "--seed", "7")
    assert ended.code == 1 and "late_orders  1 leak: 1 partition computed twice" in ended.out
    assert "feature 'rain'" in ended.out and "what to do: say when a source really is known" in ended.out
    assert project.command("check", "--leaks").code == 2


def test_a_promotion_tells_of_the_check_and_keeps_it_with_the_evidence(first_champion: Project):
    (event,) = first_champion.lake.ledger("late_orders").events()
    assert "; no leak: 3 partitions computed twice and 360 rows held against their labels (check " in event["reason"]
    digest = event["reason"].rpartition("(check ")[2].rstrip(")")
    (key,) = [one.key for one in first_champion.lake.objects.list(f"evidence/{digest}")]
    kept = json.loads(first_champion.lake.objects.get(key))
    assert kept["evidence"] == event["evidence"] and kept["leaks"] == []
    assert kept["view"] == event["candidate"]["view"]


def test_nothing_with_a_leak_is_promoted(champion: Project):
    write_config(champion.settings.config, "leaky")
    spec = champion.settings.config / "pipelines" / "leaky" / "pipeline.yaml"
    spec.write_text(spec.read_text() + "leaks: {alone: 0.6}\n")
    with pytest.raises(LeakError, match="leak: leaky: feature 'amount' alone reaches auc 0.8") as refused:
        champion.run("promote", "leaky", "2024-02")
    assert not refused.value.retry and "leaks: {alone: …}" in str(refused.value)
    assert list(champion.lake.ledger("leaky").events()) == []


def leaky(project: Project, rounds: int) -> int:
    """A version of a pipeline that takes `amount`, which tells too much, as a feature; its number."""
    part = project.settings.config / "pipelines" / "leaky"
    if not part.exists():
        write_config(project.settings.config, "leaky")
        (part / "pipeline.yaml").write_text((part / "pipeline.yaml").read_text() + "leaks: {alone: 0.6}\n")
    (part / "pipeline.yaml").write_text(
        re.sub(r"rounds: \d+", f"rounds: {rounds}", (part / "pipeline.yaml").read_text())
    )
    return project.run("train", "leaky", "2024-02").model.version


def test_a_person_makes_no_version_with_a_leak_champion_unless_they_insist(champion: Project):
    first, second, third = (leaky(champion, rounds) for rounds in (5, 6, 7))
    refused = champion.command("promote", "leaky", str(first), "--why", "it looks better", "--json")
    assert refused.code == 1 and refused.json["error"]["message"].startswith("leak: leaky: feature 'amount' alone")
    assert "--despite-leaks" in refused.json["error"]["hint"]
    assert events(champion) == []
    insisting = ("--why", "known, for a day", "--despite-leaks", "--json")
    made = champion.command("promote", "leaky", str(first), *insisting)
    assert made.code == 0 and "despite 1 leak: 3 partitions computed twice" in made.err
    assert champion.command("promote", "leaky", str(second), *insisting).code == 0
    # who was champion comes back at once; another one is looked at first
    back = ("rollback", "leaky", "--to", str(third))
    assert champion.command(*back, "--why", "bad", "--json").json["error"]["type"] == "LeakError"
    assert [event["despite_leaks"] for event in events(champion)] == [True, True]
    assert champion.command("rollback", "leaky", "--to", str(first), "--why", "bad").code == 0
    assert champion.command(*back, "--from", str(first), *insisting).code == 0
    assert [event["despite_leaks"] for event in events(champion)] == [True, True, False, True]
    leaks = [(evidence(champion, event)["leaks"] or {}).get("leaks") for event in events(champion)]
    assert [bool(one) for one in leaks] == [True, True, False, True] and leaks[0][0]["feature"] == "amount"
    shown = champion.command("ledger", "leaky").out
    assert "manual, despite leaks" in shown and "rollback, despite leaks" in shown


def test_a_version_is_checked_also_where_its_snapshots_are_no_longer_kept(champion: Project):
    """Its deliveries are there all the same; where its view can't be read, only who insists goes on."""
    descriptor = load_version(champion.lake, "late_orders", 1)
    clean = champion.table("sources/orders/clean")
    for day in range(1, 32):
        replace_again(clean, (f"2024-01-{day:02}", 1))
    vacuum(clean, before=later(90))
    with pytest.raises(VacuumedError):
        clean.read(version=descriptor["inputs"][clean.name])
    spec, said = load_pipeline(champion.settings.config, "late_orders"), []
    about = (champion.settings, RunRef("check", 1, "tester"), spec, champion.lake)
    found = version_without_leaks(*about, descriptor, despite=False, say=said.append)
    assert found.passed and len(found.partitions) == 3 and said == []
    champion.lake.objects.put(view_key("late_orders", descriptor["view"]), b"{}")
    with pytest.raises(LeakError, match="the leak check can't be made: .*--despite-leaks makes it champion"):
        version_without_leaks(*about, descriptor, despite=False, say=said.append)
    assert version_without_leaks(*about, descriptor, despite=True, say=said.append).problem in said[0]


def events(project: Project) -> list[dict[str, Any]]:
    return list(project.lake.ledger("leaky").events())


def evidence(project: Project, event: dict[str, Any]) -> dict[str, Any]:
    return json.loads(project.lake.objects.get(f"evidence/{event['evidence']}.json"))
