"""Promotions, rollbacks, repairs and publications in any order: what was published stays, what was believed stays."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at, effective_from, newest_champion
from tasks.domain.reigns import barred, reigns, rollback_from, rollback_target, successor
from tasks.errors import UsageError

LEAD = timedelta(hours=1)
DAYS = range(30)
START, CLOCK = datetime(2024, 1, 1, 9, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


def as_of(day: int) -> datetime:
    return START + timedelta(days=day)


@dataclass
class Line:
    """A ledger and what was published by it, as the verbs keep them.

    Attributes:
        trained: version -> its training's knowledge cut.
        published: day -> version.
        today: the first day that is still to come.
        gone: versions that a repair took out and nobody put in again.
        believed: for each event, its moment of record and who was champion on which day by then.
    """

    events: list[LedgerEvent] = field(default_factory=list)
    trained: dict[int, datetime] = field(default_factory=dict)
    published: dict[int, int] = field(default_factory=dict)
    today: int = 0
    gone: set[int] = field(default_factory=set)
    believed: list[tuple[datetime, list[int | None]]] = field(default_factory=list)

    def champion(self, day: int, known_at: datetime | None = None) -> int | None:
        found = champion_at(self.events, as_of(day), known_at=known_at)
        return found.version if found else None

    def newest(self) -> int:
        found = newest_champion(self.events)
        return found.version if found else 0

    def last_published(self) -> datetime | None:
        return max(map(as_of, self.published), default=None)

    def add(self, verdict, before, to, effective, candidate=None, repair=False) -> None:
        recorded = CLOCK + timedelta(minutes=len(self.events))
        facts = ("2024-01", "", effective, recorded, "test", f"reason {len(self.events)}", "run")
        event = LedgerEvent(verdict, before, to, candidate or to, *facts, repair=repair)
        self.events.append(replace(event, number=len(self.events) + 1))
        self.believed.append((recorded, [self.champion(day) for day in DAYS]))

    def go_on(self, count: int, late: bool) -> None:
        """Days pass; they are published as they come, or left for later."""
        for _ in range(count):
            if not late:
                self.publish(self.today)
            self.today = min(self.today + 1, DAYS[-1])

    def publish(self, day: int) -> None:
        """One day, if it has come: also one that was left out before."""
        champion = self.champion(day)
        if champion is not None and day not in self.published and day <= self.today:
            self.published[day] = champion

    def judge(self, ago: int, promoted: bool) -> None:
        day = max(self.today - ago, 0)
        model = ref(len(self.trained) + 1)
        self.trained[model.version] = as_of(day)
        before = newest_champion(self.events)
        effective = effective_from(self.events, as_of(day), LEAD, self.last_published())
        self.add("promote" if promoted else "keep", before, model if promoted else before, effective, model)

    def appoint(self, version: int) -> None:
        """By hand: of 0 the version that was rolled back last."""
        version = version or max(barred(self.events), default=0)
        if version not in self.trained or ref(version) == newest_champion(self.events):
            return
        effective = effective_from(self.events, self.trained[version], LEAD, self.last_published())
        self.add("manual", newest_champion(self.events), ref(version), effective)
        self.gone.discard(version)

    def roll_back(self, bad: int, to: int | None, repair: bool) -> None:
        bad = bad or self.newest()
        try:
            target = rollback_target(self.events, bad=bad, why="bad", repair=repair)
            back = successor(self.events, target.model) if to is None else ref(to)
            if target.done or back == target.model or back.version in barred(self.events):
                return
            effective = rollback_from(
                self.events,
                bad=target.model,
                to=back,
                trained_as_of=self.trained[back.version],
                lead=LEAD,
                repair=repair,
                last_published_as_of=self.last_published(),
            )
        except (UsageError, KeyError):
            return
        self.add("rollback", target.model, back, effective, repair=repair)
        if repair:
            self.gone.add(bad)
            for day in [day for day, version in self.published.items() if version == bad]:
                self.published[day] = self.champion(day)


def ref(version: int) -> ModelRef:
    return ModelRef(version, f"d{version}", "v")


def some_steps(seed: int) -> list[tuple]:
    """Half a year of one line. From a seed: Hypothesis's own lists are mostly too short for two champions and a repair."""
    draw = random.Random(seed)
    versions = [0, 0, 0, 1, 2, 3, 4]  # 0: the present champion
    one = {
        "go_on": lambda: (draw.randint(1, 3), draw.random() < 0.2),
        "publish": lambda: (draw.choice(DAYS),),
        "judge": lambda: (draw.randint(0, 3), draw.random() < 0.7),
        "appoint": lambda: (draw.choice(versions),),
        "roll_back": lambda: (draw.choice(versions), draw.choice([None, None, 1, 2, 3]), draw.random() < 0.6),
    }
    names = draw.choices(list(one), weights=[4, 1, 3, 1, 2], k=draw.randint(10, 30))
    return [(name, *one[name]()) for name in names]


versions = st.sampled_from([0, 0, 1, 2, 3])
steps = st.integers(0, 2**32).map(some_steps)


@settings(max_examples=300)
@given(steps)
def test_whatever_happens_a_backfill_gives_back_what_stands_published(steps):
    line = Line()
    for name, *arguments in steps:
        before, newest = dict(line.published), line.newest()
        getattr(line, name)(*arguments)
        assert {day: line.champion(day) for day in line.published} == line.published
        # nothing but a repair changes what was published, and only its own version's days
        changed = {day for day, version in before.items() if line.published[day] != version}
        assert not changed or (name == "roll_back" and {before[day] for day in changed} == {arguments[0] or newest})


@settings(max_examples=300)
@given(steps)
def test_a_version_that_a_repair_took_out_is_champion_nowhere_until_a_person_puts_it_in_again(steps):
    line = Line()
    for name, *arguments in steps:
        getattr(line, name)(*arguments)
        reigned = {reign.model.version for reign in reigns(line.events) if reign.model}
        assert not reigned & line.gone
        assert not set(line.published.values()) & line.gone
        assert line.gone <= set(barred(line.events))


@given(steps)
def test_only_a_repair_reaches_back_behind_the_events_before_it(steps):
    line = Line()
    for name, *arguments in steps:
        getattr(line, name)(*arguments)
    for place, event in enumerate(line.events):
        assert event.repair or all(event.effective_from >= one.effective_from for one in line.events[:place])


@given(steps)
def test_what_was_believed_is_answered_as_it_was_believed(steps):
    line = Line()
    for name, *arguments in steps:
        getattr(line, name)(*arguments)
    for recorded, champions in line.believed:
        assert [line.champion(day, known_at=recorded) for day in DAYS] == champions
    assert all(line.champion(day, known_at=CLOCK - LEAD) is None for day in DAYS)


@given(steps)
def test_no_champion_scores_a_day_before_it_was_known(steps):
    line = Line()
    for name, *arguments in steps:
        getattr(line, name)(*arguments)
    for day in DAYS:
        champion = line.champion(day)
        assert champion is None or line.trained[champion] + LEAD <= as_of(day)


@given(steps)
def test_reigns_follow_each_other_and_say_what_each_moment_says(steps):
    line = Line()
    for name, *arguments in steps:
        getattr(line, name)(*arguments)
    found = reigns(line.events)
    assert all(one.end == two.start and one.model != two.model for one, two in zip(found, found[1:], strict=False))
    for day in DAYS:
        here = [one for one in found if one.start <= as_of(day) and (one.end is None or as_of(day) < one.end)]
        assert [one.model.version for one in here if one.model] == ([line.champion(day)] if line.champion(day) else [])
    assert (found[-1].model if found else None) == newest_champion(line.events)


@given(steps, versions, st.booleans())
def test_a_rollback_a_second_time_changes_nothing(steps, bad, repair):
    line = Line()
    for name, *arguments in steps:
        getattr(line, name)(*arguments)
    bad = bad or line.newest()
    line.roll_back(bad, None, repair)
    before = list(line.events)
    line.roll_back(bad, None, repair)
    assert line.events == before


@settings(max_examples=300)
@given(steps)
def test_who_comes_back_was_champion_when_the_bad_one_took_over_and_may_stand_in_for_its_days(steps):
    line = Line()
    for name, *arguments in steps:
        getattr(line, name)(*arguments)
    bad, back = newest_champion(line.events), barred(line.events)
    first = next((place for place, event in enumerate(line.events) if bad and event.to_model == bad), None)
    if bad is None or first is None:
        return
    try:
        found = successor(line.events, bad)
    except UsageError:
        found = None
    # nobody named the bad one for days before its own: then it is whom it took over from, if that isn't barred
    before = newest_champion(line.events[:first])
    named = any(event.repair and event.to_model == bad for event in line.events)
    assert named or before is None or before.version in back or found == before
    for repair in (False, True) if found else ():
        rollback_from(
            line.events,
            bad=bad,
            to=found,
            trained_as_of=line.trained[found.version],
            lead=LEAD,
            repair=repair,
            last_published_as_of=line.last_published(),
        )
