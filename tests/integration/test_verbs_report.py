"""A report judges a model by what it did not learn, and says what it left out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest

from tasks.command.explain import why_report
from tasks.command.report import report, text
from tasks.command.steps import Steps
from tasks.domain.results import ReportResult
from tasks.domain.run import RunRef
from tasks.explain import why
from tasks.settings import load_pipeline
from tests.support.pipelines import deliver
from tests.support.project import Project

NAME = "late_orders"
LEARNED, HELD_OUT = ("2024-01-20", "2024-01-21"), "2024-01-30"
LEARNED_BY_THE_FIRST = ("2024-01-10", "2024-01-11", "2024-01-12")
FIRST, LAST = date(2024, 1, 1), date(2024, 2, 3)


@dataclass(frozen=True)
class Named:
    """A project, and its two versions: the first champion, and one that was trained on fewer days."""

    project: Project
    first: int
    second: int


def judged(project: Project, first: date = FIRST, last: date = LAST) -> ReportResult:
    steps = Steps(project.settings, RunRef("report", 1, "tester"), lambda text: None, lambda done, total: None)
    return report(steps, NAME, first, last)


@pytest.fixture(scope="module")
def named(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> Named:
    """Days of January by versions that were named, also where they were trained on them; two of February as of."""
    project = first_champion.copy(tmp_path_factory.mktemp("report") / "project")
    deliver(project.incoming, date(2024, 2, 1), LAST)
    project.load({"orders": "2024-02-01..2024-02-03", "arrivals": "2024-02-01..2024-02-03"})
    first = project.run("score", NAME, "2024-02-02..2024-02-03").partitions[0].model_version
    project.run("score", NAME, "..".join(LEARNED), model=first, allow_in_sample=True)
    project.run("score", NAME, HELD_OUT, model=first)
    file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
    file.write_text(file.read_text().replace("rounds: 5", "rounds: 6, window: 10d"))
    second = project.run("train", NAME, "2024-02").model.version
    project.run("score", NAME, f"{LEARNED_BY_THE_FIRST[0]}..{LEARNED_BY_THE_FIRST[-1]}", model=second)
    return Named(project, first, second)


def test_days_that_the_published_version_or_a_policys_model_was_trained_on_judge_nobody(named: Named):
    found = judged(named.project)
    assert found.in_sample == {f"version {named.first} (published)": 2, f"version {named.first} (refit)": 3}
    assert (found.published, found.total.partitions, found.total.rows) == (8, 3, 120)
    assert [one.name for one in found.versions] == [f"version {named.first}"]
    said = text(found)
    assert "auc of 3 of 8 published partitions" in said
    assert f"in sample: partitions that a model was trained on, 2 of version {named.first} (published), 3 of" in said


def test_a_range_that_is_all_in_sample_says_ahead_of_nothing(named: Named):
    found = judged(named.project, *map(date.fromisoformat, LEARNED))
    assert (found.published, found.in_sample, found.total) == (2, {f"version {named.first} (published)": 2}, None)
    assert "auc of 0 of 2 published partitions" in text(found) and "ahead" not in text(found)


@pytest.mark.parametrize(
    ("day", "how", "in_sample"),
    [
        (LEARNED[0], "version {}, named by hand; IN SAMPLE: it was trained on this partition", True),
        (HELD_OUT, "version {}, named by hand\n", False),
        ("2024-02-02", "version {}, champion at this as_of\n", False),
    ],
)
def test_why_says_who_chose_the_version_and_whether_it_was_trained_on_the_day(
    named: Named, day: str, how: str, in_sample: bool
):
    spec = load_pipeline(named.project.settings.config, NAME)
    entity = {"order_id": f"{day.replace('-', '')}-007"}
    found = why(spec=spec, partition=spec.partition(day), entity=entity, lake=named.project.lake, threads=1)
    assert found.published.in_sample is in_sample
    assert how.format(named.first) in why_report(found)


def test_without_any_champion_what_a_named_version_published_is_judged_alone(
    named: Named, tmp_path_factory: pytest.TempPathFactory
):
    project = named.project.copy(tmp_path_factory.mktemp("nobody") / "project")
    for one in list(project.lake.objects.list(f"ledger/{NAME}/")):
        project.lake.objects.delete(one.key)
    found = judged(project)
    assert found.in_sample == {f"version {named.first} (published)": 2}
    assert [one.policy for one in found.total.policies] == ["gated"] and found.total.partitions == 6
    assert [one.name for one in found.versions] == [f"version {named.first}", f"version {named.second}"]
    assert "no version was ever champion" in text(found)
