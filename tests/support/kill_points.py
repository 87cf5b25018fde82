"""The points at which writing verbs are killed: enumerated by tracing every gateway call, kept in `kill_points.txt`.

`python -m tests.support.kill_points` traces them anew and rewrites the list.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.domain.results import Result
from tasks.registry.registry import ALIAS
from tests.support import reader
from tests.support.forked_steps import ForkedSteps, Point, forked_steps
from tests.support.mlflow_server import mlflow_server
from tests.support.pipelines import CONTRACT, deliver, write_config, write_rollups
from tests.support.project import Project, historical_january, make_project, with_settings
from tests.support.rows import scatter

FILE = Path(__file__).with_name("kill_points.txt")
NAME, TRAINING = "late_orders", "2024-02"
FEBRUARY = "2024-02-01..2024-02-04"
PREDICTED = "2024-02-02..2024-02-04"
SEARCH = "search: {trials: 2, validation: 3d, space: {max_depth: [1, 4]}}"
ROLLUP = (
    "select shop, count(*) as orders, sum(late::int) as late from orders join arrivals using (order_id) group by shop"
)
FEATURES = """
select e.order_id, e.amount, h.orders, h.late
from entities e left join (select shop, sum(orders) as orders, sum(late) as late from past group by shop) h using (shop)
"""
RUN = {"MILLRACE_RUN_ID": "the-run", "MILLRACE_ATTEMPT": "1"}


@dataclass(frozen=True)
class Scenario:
    """A writing verb and the state that it begins with.

    Attributes:
        words: of the command.
        state: name of the state.
        given: verbs whose results are handed over.
        fresh: whether each run needs another training, so that MLflow does not know it already.
        known: whether each run meets a training that MLflow knows already, the one that is traced too.
    """

    words: tuple[str, ...]
    state: str
    given: tuple[str, ...] = ()
    fresh: bool = False
    known: bool = False


SCENARIOS = {
    "ingest": Scenario(("run", "ingest", "orders", "2024-01-01..2024-01-03"), "delivered"),
    "validate": Scenario(("run", "validate", "orders", "2024-01-01..2024-01-03"), "landed"),
    "featurize": Scenario(("run", "featurize", NAME, PREDICTED), "february", ("pin",)),
    "featurize with rollups": Scenario(("run", "featurize", NAME, PREDICTED), "rolled"),
    "score": Scenario(("run", "score", NAME, PREDICTED), "featurized", ("pin", "featurize")),
    "train": Scenario(("run", "train", NAME, TRAINING), "january", fresh=True),
    "train with a search": Scenario(("run", "train", NAME, TRAINING), "searching", fresh=True),
    "evaluate": Scenario(("run", "evaluate", NAME, TRAINING), "trained", ("pin_training", "featurize", "train")),
    "promote": Scenario(
        ("run", "promote", NAME, TRAINING), "trained", ("pin_training", "featurize", "train", "evaluate")
    ),
    "promote by hand": Scenario(("promote", NAME, "OTHER", "--why", "it looks better"), "february"),
    "rollback": Scenario(("rollback", NAME, "--from", "BAD", "--why", "it is bad", "--repair"), "bad"),
    "replay": Scenario(("replay", NAME, "2024-02-02"), "set aside"),
    "backtest": Scenario(
        ("backtest", NAME, "--from", "2024-02-01", "--to", "2024-02-04", "--name", "walk"),
        "february without a champion",
        known=True,
    ),
    "maintain": Scenario(("maintain",), "scattered"),
}


class Workshop:
    """Projects in the states that scenarios begin with, each made once and copied."""

    def __init__(self, folder: Path, mlflow: str, steps: ForkedSteps) -> None:
        self.folder, self.mlflow, self.steps = folder, mlflow, steps
        self._made: dict[str, tuple[Project, dict[str, Result], dict[str, str]]] = {}
        self._seeds = random.Random(os.urandom(8))

    def begin(self, name: str) -> tuple[Project, tuple[str, ...]]:
        """A project of its own for a scenario, and the command's words."""
        scenario = SCENARIOS[name]
        project, results, numbers = self.state(scenario.state)
        place = self.folder / "now"
        shutil.rmtree(place, ignore_errors=True)
        copy = project.copy(place)
        words = tuple(numbers.get(word, word) for word in scenario.words)
        self._forget_alias()
        if scenario.fresh:
            file = copy.settings.config / "pipelines" / NAME / "pipeline.yaml"
            file.write_text(file.read_text().replace("rounds: 5", f"rounds: 5, seed: {self._seeds.randrange(10**9)}"))
        if scenario.given:
            file = place / "given.json"
            file.write_text(_json({verb: results[verb].to_dict() for verb in scenario.given}))
            words += ("--input", str(file))
        return copy, (*words, "--json")

    def _forget_alias(self) -> None:
        """MLflow's aliases are one for all projects here: without them each begins alike."""
        client = MlflowClient(self.mlflow, registry_uri=self.mlflow)
        for model in (NAME, f"{NAME}-backtests-walk"):
            with suppress(MlflowException):  # no model yet
                client.delete_registered_model_alias(model, ALIAS)

    def state(self, name: str) -> tuple[Project, dict[str, Result], dict[str, str]]:
        """A state: a project to copy, the results of verbs before it, and numbers that words stand for."""
        if name not in self._made:
            self._made[name] = getattr(self, f"_{name.replace(' ', '_')}")(self.folder / name)
        return self._made[name]

    def _new(self, folder: Path, first: date, last: date) -> Project:
        write_config(folder / "config", NAME)
        project = _alone(make_project(folder, mlflow=self.mlflow))
        deliver(project.incoming, first, last)
        return project

    def _delivered(self, folder: Path):
        return self._new(folder, date(2024, 1, 1), date(2024, 1, 3)), {}, {}

    def _landed(self, folder: Path):
        project = self._new(folder, date(2024, 1, 1), date(2024, 1, 3))
        project.run("ingest", "orders", "2024-01-01..2024-01-03")
        return project, {}, {}

    def _january(self, folder: Path):
        return _alone(historical_january(folder, self.mlflow, first=22)), {}, {}

    def _searching(self, folder: Path):
        project = self.state("january")[0].copy(folder)
        file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
        file.write_text(file.read_text().replace("rounds: 5", f"rounds: 5, {SEARCH}"))
        return project, {}, {}

    def _february_without_a_champion(self, folder: Path):
        return _with_february(self.state("january")[0].copy(folder)), {}, {}

    def _rolled(self, folder: Path):
        project = self.state("january")[0].copy(folder)
        part = project.settings.config / "pipelines" / NAME
        part.joinpath("features.sql").write_text(FEATURES)
        write_rollups(part, past=("arrivals", ROLLUP))
        assert project.run("promote", NAME, TRAINING).promoted
        return _with_february(project), {}, {}

    def _set_aside(self, folder: Path):
        trained, results, _ = self.state("trained")
        project = trained.copy(folder)
        assert project.run("promote", NAME, TRAINING, given=results).promoted
        source = project.settings.config / "sources" / "orders"
        (source / "contract.json").write_text(CONTRACT.replace("1000", "600"))
        text = (source / "source.yaml").read_text()
        (source / "source.yaml").write_text(f"{text}max_reject_rate: 0.9\n")
        _with_february(project).run("score", NAME, PREDICTED)
        (source / "contract.json").write_text(CONTRACT)
        return project, {}, {}

    def _trained(self, folder: Path):
        project = self.state("january")[0].copy(folder)
        results: dict[str, Result] = {}
        for verb in ("pin_training", "featurize", "train", "evaluate"):
            results[verb] = project.run(verb, NAME, TRAINING, given=results)
        return project, results, {}

    def _february(self, folder: Path):
        trained, results, _ = self.state("trained")
        project = trained.copy(folder)
        assert project.run("promote", NAME, TRAINING, given=results).promoted
        file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
        text = file.read_text()
        file.write_text(text.replace("rounds: 5", "rounds: 6"))
        other = project.run("train", NAME, TRAINING).model.version
        file.write_text(text)
        _with_february(project)
        return project, {"pin": project.run("pin", NAME, PREDICTED)}, {"OTHER": str(other)}

    def _featurized(self, folder: Path):
        february, results, _ = self.state("february")
        project = february.copy(folder)
        return project, results | {"featurize": project.run("featurize", NAME, PREDICTED, given=results)}, {}

    def _bad(self, folder: Path):
        february, _, numbers = self.state("february")
        project = february.copy(folder)
        project.run("score", NAME, "2024-02-02")
        code = self.steps.run(project, "promote", NAME, numbers["OTHER"], "--why", "it looks better").code
        assert code == 0
        project.run("score", NAME, "2024-02-03..2024-02-04")
        return project, {}, {"BAD": numbers["OTHER"]}

    def _scattered(self, folder: Path):
        project, _, _ = self._landed(folder)
        project.run("validate", "orders", "2024-01-01..2024-01-03")
        for name in ("sources/orders/raw", "sources/orders/clean"):
            scatter(project.table(name))
        age(project)
        return project, {}, {}


def _with_february(project: Project) -> Project:
    """The same project, its first days of February ingested too."""
    deliver(project.incoming, date(2024, 2, 1), date(2024, 2, 4))
    project.load({"orders": FEBRUARY, "arrivals": "2024-02-01..2024-02-03"})
    return project


def age(project: Project) -> None:
    """Have everything in the lake look a month old, so that maintenance takes what nobody needs."""
    moment = time.time() - 30 * 86_400
    for file in lake_of(project).rglob("*"):
        if file.is_file():
            os.utime(file, (moment, moment))


def lake_of(project: Project) -> Path:
    return project.settings.home / "lake"


@dataclass(frozen=True)
class Unbroken:
    """A scenario that was not killed: where it could have been, and what a reader sees after it."""

    points: list[Point]
    after: dict


def unbroken(workshop: Workshop, name: str) -> Unbroken:
    """Run a scenario to its end. Of each gateway call the first and the last are points, before and after."""
    project, words = workshop.begin(name)
    if SCENARIOS[name].known:
        assert workshop.steps.run(project, *words, environment=RUN).code == 0
        project, words = workshop.begin(name)
    trace = project.folder / "trace"
    ended = workshop.steps.run(project, *words, trace=trace, environment=RUN)
    assert ended.code == 0, ended.err
    reader.check(lake_of(project))
    calls = Counter(trace.read_text().splitlines())
    points = [
        Point(call, number, moment)
        for call, count in sorted(calls.items())
        for number in sorted({1, count})
        for moment in ("before", "after")
    ]
    return Unbroken(points, reader.state(lake_of(project)))


def listed() -> list[tuple[str, Point]]:
    """The committed list: scenario and point."""
    found = []
    for line in FILE.read_text().splitlines():
        scenario, _, told = line.partition(": ")
        moment, call, number = told.split(" ")
        found.append((scenario, Point(call, int(number), moment)))
    return found


def spelled(scenario: str, point: Point) -> str:
    return f"{scenario}: {point}"


def check_kill(workshop: Workshop, scenario: str, point: Point, expected: dict) -> int:
    """Kill a command at a point, look, run it again, look, clean up, look.

    Args:
        expected: what a reader sees after the command that was not killed.

    Returns:
        How many files without an owner were there to clean up.
    """
    project, words = workshop.begin(scenario)
    lake = lake_of(project)
    before = reader.state(lake)
    killed = workshop.steps.run(project, *words, point=point, environment=RUN)
    assert killed.code == -9, f"{point} was not reached: {killed.code} {killed.err}"
    reader.check(lake)
    _check_whole(before, reader.state(lake), expected)
    again = workshop.steps.run(project, *words, environment=RUN | {"MILLRACE_ATTEMPT": "2"})
    assert again.code == 0, again.err
    reader.check(lake)
    assert reader.state(lake) == expected
    if SCENARIOS[scenario].fresh:
        _check_registered_once(project)
    left = reader.orphans(lake)
    if left:
        age(project)
        cleaned = workshop.steps.run(project, "maintain", "--json")
        assert cleaned.code == 0, cleaned.err
        assert not reader.orphans(lake)
        reader.check(lake)
        assert reader.state(lake) == expected
    return len(left)


def _check_whole(before: dict, seen: dict, after: dict) -> None:
    """Every partition stands as it was or as it will be."""
    for name, there in seen.items():
        if not isinstance(there, dict):  # a ledger
            assert there in (before.get(name), after[name]), f"ledger {name}: {there}"
            continue
        for key, rows in there.items():
            was = before.get(name, {}).get(key)
            assert rows in (was, after[name].get(key)), f"{name}: {key} is neither as before nor as after"


def _check_registered_once(project: Project) -> None:
    """One version in the lake, one in MLflow, of the same model."""
    (descriptor,) = [json.loads(file.read_text()) for file in lake_of(project).glob(f"{NAME}/versions/*.json")]
    client = MlflowClient(project.settings.mlflow, registry_uri=project.settings.mlflow)
    versions = [one for one in client.search_model_versions(f"name = '{NAME}'") if one.run_id == descriptor["run"]]
    assert [int(one.version) for one in versions] == [descriptor["version"]]
    kept = list(lake_of(project).glob(f"{NAME}/trainings/{descriptor['key']}/**/*"))
    assert not [file for file in kept if file.is_file()]


def _alone(project: Project) -> Project:
    """With one thread: the same calls each time."""
    return with_settings(project, threads=1)


def _json(value: object) -> str:
    return json.dumps(value, default=str)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, mlflow_server(Path(name)) as mlflow, forked_steps() as steps:
        folder = Path(name)
        workshop = Workshop(folder, mlflow, steps)
        lines = [spelled(scenario, point) for scenario in SCENARIOS for point in unbroken(workshop, scenario).points]
    FILE.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} kill points in {FILE}")


if __name__ == "__main__":
    main()
