"""Random histories of a pipeline: deliveries, restatements, scoring, promotions, rollbacks and kills, by the real verbs.

Whatever happened, in whatever order, what is published for a day by a version is the same in every history.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import ClassVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support import reader
from tests.support.forked_steps import ForkedSteps, Point
from tests.support.kill_points import NAME, SCENARIOS, TRAINING, Workshop, lake_of, listed
from tests.support.pipelines import deliver
from tests.support.project import Project

FIRST, DAYS, BEGUN = date(2024, 2, 1), 5, 3
LATE = (date(2024, 2, 3), date(2024, 2, 4))
"""Days whose outcomes come late, if at all before the end: the days after them wait for these."""
ZONE = "America/New_York"
POINTS = {name: [point for scenario, point in listed() if scenario == name] for name in SCENARIOS}


@dataclass
class Seen:
    """What all histories of a run have in common, and how much of what there was.

    Attributes:
        rows: (day, version) -> what was published for it, the same whenever it was.
        counts: of what happened, by kind.
    """

    rows: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def beginning(workshop: Workshop, folder: Path) -> tuple[Project, list[int]]:
    """A pipeline with a first champion and two more versions; and the versions."""
    project, results, _ = workshop.state("trained")
    begun = project.copy(folder)
    versions = [begun.run("promote", NAME, TRAINING, given=results).champion]
    file = begun.settings.config / "pipelines" / NAME / "pipeline.yaml"
    text = file.read_text()
    for rounds in (6, 7):
        file.write_text(text.replace("rounds: 5", f"rounds: {rounds}"))
        versions.append(begun.run("train", NAME, TRAINING).model.version)
    file.write_text(text)
    last = FIRST + timedelta(days=DAYS - 1)
    deliver(begun.incoming, FIRST, last)
    for days in (f"{FIRST}..{LATE[0] - timedelta(days=1)}", str(last)):
        begun.load({"arrivals": days})
    return begun, versions


def with_two_reigns(begun: Project, versions: list[int], folder: Path) -> Project:
    """The same three days later: the second was scored by the first champion, the third by the second one."""
    project = begun.copy(folder)
    last = FIRST + timedelta(days=BEGUN - 1)
    project.load({"orders": f"{FIRST}..{last}"})
    project.run("score", NAME, f"{FIRST}..{FIRST + timedelta(days=1)}")  # the first has no champion yet
    promoted = project.command("promote", NAME, str(versions[1]), "--why", "it may be better")
    assert promoted.code == 0, promoted.err
    project.run("score", NAME, f"{FIRST}..{last}")
    scored = {
        key: entry.meta["model_version"] for (key,), entry in project.table(f"{NAME}/predictions").entries().items()
    }
    assert sorted(set(scored.values())) == versions[:2], scored
    return project


def kills(verb: str) -> st.SearchStrategy[Point | None]:
    """Mostly none; else one of the points at which the verb dies."""
    return st.one_of(st.none(), st.none(), st.sampled_from(POINTS[verb]))


class Histories(RuleBasedStateMachine):
    """One history; the class's attributes are set by the test that runs it."""

    begun: ClassVar[Project]
    two_reigns: ClassVar[Project]
    versions: ClassVar[list[int]]
    steps: ClassVar[ForkedSteps]
    seen: ClassVar[Seen]
    folder: ClassVar[Path]

    @initialize(later=st.booleans())
    def begin(self, later: bool) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.now = (self.two_reigns if later else self.begun).copy(self.folder)
        self.delivered = [FIRST + timedelta(days=day) for day in range(BEGUN if later else 0)]
        self.awaited = list(LATE)
        self.published: dict[str, int] = {}
        self.seen.count("histories")

    def run(self, *words: str, point: Point | None = None, again: bool = True) -> int:
        """A command, perhaps killed, and then, as an operator would, called once more."""
        self.seen.count("commands")
        ended = self.steps.run(self.now, *words, "--json", point=point)
        if ended.code == -9:
            self.seen.count("kills")
            return self.run(*words) if again else -9
        assert ended.code in (0, 1, 2) and "unexpected" not in ended.err, ended
        return ended.code

    @precondition(lambda self: len(self.delivered) < DAYS)
    @rule(landing=kills("ingest"), judging=kills("validate"))
    def a_day_is_delivered(self, landing: Point | None, judging: Point | None) -> None:
        day = FIRST + timedelta(days=len(self.delivered))
        self.run("run", "ingest", "orders", str(day), point=landing)
        self.run("run", "validate", "orders", str(day), point=judging)
        self.delivered.append(day)

    @precondition(lambda self: self.awaited)
    @rule(data=st.data(), landing=kills("ingest"), judging=kills("validate"))
    def late_outcomes_come(self, data, landing: Point | None, judging: Point | None) -> None:
        day = data.draw(st.sampled_from(self.awaited))
        self.seen.count("late deliveries")
        self.run("run", "ingest", "arrivals", str(day), point=landing)
        self.run("run", "validate", "arrivals", str(day), point=judging)
        self.awaited.remove(day)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), factor=st.sampled_from([0.5, 0.9]))
    def a_day_is_restated(self, data, factor: float) -> None:
        day = data.draw(st.sampled_from(self.delivered))
        file = self.now.incoming / "orders" / f"{day}.csv"
        with file.open(newline="") as stream:
            header, *rows = csv.reader(stream)
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *([one, shop, float(x) * factor] for one, shop, x in rows[1:])])
        self.seen.count("restatements")
        self.run("run", "ingest", "orders", str(day))
        self.run("run", "validate", "orders", str(day))

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), point=kills("score"), again=st.booleans())
    def days_are_scored(self, data, point: Point | None, again: bool) -> None:
        first, last = sorted(data.draw(st.tuples(*[st.integers(0, DAYS - 1)] * 2)))
        days = f"{FIRST + timedelta(days=first)}..{FIRST + timedelta(days=last)}"
        self.run("run", "score", NAME, days, point=point, again=again)

    @rule(data=st.data(), point=kills("promote by hand"))
    def a_version_is_promoted_by_hand(self, data, point: Point | None) -> None:
        version = data.draw(st.sampled_from(self.versions))
        self.seen.count("promotions")
        self.run("promote", NAME, str(version), "--why", "it may be better", point=point)

    @rule(point=kills("rollback"), repair=st.booleans())
    def the_champion_is_taken_back(self, point: Point | None, repair: bool) -> None:
        events = reader.events(lake_of(self.now) / "ledger" / NAME)
        present = reader.version_of(events[-1]["to_model"])
        self.seen.count("rollbacks")
        words = ("rollback", NAME, "--from", str(present), "--why", "it may be worse")
        code = self.run(*words, *(["--repair"] if repair else []), point=point)
        if repair and code == 0:
            self.seen.count("repairs")
            self._each_day_is_its_champions()

    @rule()
    def maintenance_runs(self) -> None:
        self.run("maintain")

    @invariant()
    def what_is_published_is_right(self) -> None:
        if not hasattr(self, "now"):
            return
        lake = lake_of(self.now)
        reader.check(lake)
        table = reader.read(lake / NAME / "predictions") if (lake / NAME / "predictions").exists() else None
        rows = table.rows() if table else {}
        versions = {}
        for (day,), there in rows.items():
            (version,) = {reader.version_in(row) for row in there}
            versions[day] = version
            known = self.seen.rows.setdefault((day, version), there)
            assert there == known, f"{day} was scored by version {version} in two ways"
        lost = set(self.published) - set(versions)
        assert not lost, f"{lost} was published and is gone"
        changed = {day for day, version in self.published.items() if versions[day] != version}
        taken_back = {
            reader.version_of(one["from_model"]) for one in reader.events(lake / "ledger" / NAME) if one.get("repair")
        }
        assert all(self.published[day] in taken_back for day in changed), f"{changed} changed without a repair"
        self.published = versions

    def _each_day_is_its_champions(self) -> None:
        """What is published was scored by today's champion of its day: a repair has left nothing of the bad one."""
        lake = lake_of(self.now)
        events = reader.events(lake / "ledger" / NAME)
        for (day,), there in reader.read(lake / NAME / "predictions").rows().items() if self.published else ():
            as_of = datetime.combine(date.fromisoformat(day), time(4), ZoneInfo(ZONE))
            found = set(map(reader.version_in, there))
            assert found == {reader.champion_at(events, as_of)}, f"{day} was scored by {found}"

    def teardown(self) -> None:
        if not hasattr(self, "now") or not self.delivered:
            return
        for day in self.awaited:
            for verb in ("ingest", "validate"):
                self.run("run", verb, "arrivals", str(day))
        days = f"{self.delivered[0]}..{self.delivered[-1]}"
        self.run("run", "score", NAME, days)
        self.what_is_published_is_right()
        self._each_day_is_its_champions()
        events = reader.events(lake_of(self.now) / "ledger" / NAME)
        for day in self.delivered:
            as_of = datetime(day.year, day.month, day.day, 4, tzinfo=ZoneInfo(ZONE))
            if reader.champion_at(events, as_of) is not None:
                assert str(day) in self.published, f"{day} has a champion and was not published"
