"""Searches in real processes: one matrix for all trials, memory that stays flat, and kills that change nothing."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.compute.params import check_space
from tasks.compute.rows import TrainingData, fit_encoding_files, survey
from tasks.compute.search import Found, Hunt, search
from tasks.compute.single import Single
from tasks.compute.train import Recipe
from tasks.compute.trials import Trial, Trials
from tasks.domain.search import SearchSpec
from tasks.errors import TrainingError
from tasks.lake.objects import FolderStore
from tests.support.cluster_checks import FEATURES, binary, classes, rows, write
from tests.support.killing_store import KillingStore

SPACE = {"max_depth": [1, 6], "eta": [0.01, 0.5, "log"], "subsample": [0.5, 1.0]}


def hunt(
    data: TrainingData, kept: Trials, *, trials: int, space=None, objective="binary:logistic", metric="auc"
) -> Hunt:
    """A search that is judged on the last file."""
    asked = SearchSpec(trials=trials, space=space or SPACE)
    return Hunt(check_space(objective, {}, asked.space), trials, metric, frozenset(data.files[-1:]), kept)


def searched(
    folder: Path, data: TrainingData, wanted: Hunt, *, said=None, attempts=1, external=False, rounds=6, **more
) -> Found:
    encoding = fit_encoding_files(data, FEATURES)

    @contextmanager
    def open_place():
        yield Single("cpu", 1, folder, external=external)

    recipe = Recipe(more.get("objective", "binary:logistic"), {}, rounds, seed=5)
    return search(
        open_place,
        data,
        seen=survey(data, FEATURES),
        encoding=encoding,
        recipe=recipe,
        hunt=wanted,
        attempts=attempts,
        say=(said if said is not None else []).append,
    )


def tried(trials: tuple[Trial, ...]) -> list[tuple]:
    return [(trial.number, trial.params, trial.value, trial.history) for trial in trials]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return write(tmp_path_factory.mktemp("rows"), [rows(300, seed) for seed in range(4)], binary)


@pytest.fixture(scope="module")
def unbroken(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("unbroken")
    return searched(folder, data, hunt(data, Trials(FolderStore(folder / "store"), "t"), trials=13))


def test_a_search_finds_better_parameters_than_most_and_follows_every_round(unbroken):
    values = [trial.value for trial in unbroken.trials]
    assert len(values) == 13 and unbroken.best.value == max(values) > min(values)
    assert unbroken.rows == (900, 300)
    for trial in unbroken.trials:
        assert (trial.way, trial.device, trial.error) == ("single", "cpu", "")
        assert {name: len(by_round) for name, by_round in trial.history.items()} == {"auc": 6, "logloss": 6}
        # two counts of the same pairs: XGBoost's and the gate's
        assert trial.history["auc"][-1] == pytest.approx(trial.value, abs=1e-5)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_search_whose_process_is_killed_goes_on_and_ends_as_one_that_was_not(tmp_path, data, unbroken, moment):
    said: list[str] = []
    kept = Trials(KillingStore(tmp_path, "00004.json", moment), "t")
    found = searched(tmp_path, data, hunt(data, kept, trials=13), said=said, attempts=2)
    done = 4 if moment == "after" else 3
    (lost,) = [text for text in said if "was lost" in text]
    assert "exit status -9" in lost
    assert f"going on with trial {done + 1} of 13: those before it are done" in said
    assert tried(found.trials) == tried(unbroken.trials) and found.best.params == unbroken.best.params
    assert found.cpu_seconds > 0
    again = searched(tmp_path, data, hunt(data, kept, trials=13), said=said)
    assert again.trials == found.trials and again.cpu_seconds == 0  # no process was started


def test_memory_is_flat_from_trial_to_trial(tmp_path):
    data = write(tmp_path / "train", [rows(10_000, seed) for seed in range(3)], binary)
    found = searched(tmp_path, data, hunt(data, Trials(FolderStore(tmp_path / "store"), "t"), trials=50), rounds=3)
    memory = [trial.memory for trial in found.trials]
    assert memory[0] > 50 << 20
    # what one trial needs beyond the data is let go of by the first ten; 30,000 rows of anything kept would show
    assert memory[-1] - memory[9] < 4 << 20, [value >> 10 for value in memory]


def test_the_data_of_a_search_may_lie_out_of_memory(tmp_path, data, unbroken):
    kept = Trials(FolderStore(tmp_path / "store"), "t")
    outside = searched(tmp_path, data, hunt(data, kept, trials=3), external=True)
    assert {trial.way for trial in outside.trials} == {"external"}
    # the first three are drawn from the seed, whatever their values
    assert [trial.params for trial in outside.trials] == [trial.params for trial in unbroken.trials[:3]]
    for one, other in zip(unbroken.trials, outside.trials, strict=False):
        assert one.value == pytest.approx(other.value, abs=0.02)


def test_a_search_over_rows_that_outside_workers_joined_reads_them_from_the_lake(tmp_path, data, unbroken):
    store = FolderStore(tmp_path / "lake")
    names = [f"rows/{Path(file).name}" for file in data.files]
    for file, name in zip(data.files, names, strict=True):
        store.put_file(name, Path(file))
    there = TrainingData(tuple(names), store=store)
    found = searched(tmp_path, there, hunt(there, Trials(store, "t"), trials=3))
    assert tried(found.trials) == tried(unbroken.trials[:3])


def test_a_trial_that_xgboost_refuses_is_kept_with_the_reason_and_the_next_ones_are_made(tmp_path):
    data = write(tmp_path / "train", [rows(300, seed) for seed in range(3)], binary)
    space = {"interaction_constraints": {"choice": ["[[0, 1]]", "[[0, 1"]}}
    found = searched(tmp_path, data, hunt(data, Trials(FolderStore(tmp_path / "store"), "t"), trials=8, space=space))
    refused = [trial for trial in found.trials if trial.value is None]
    assert 0 < len(refused) < 8
    assert all(trial.error and trial.params["interaction_constraints"] == "[[0, 1" for trial in refused)
    assert found.best.params["interaction_constraints"] == "[[0, 1]]"


def test_several_classes_are_searched_for_where_the_last_rows_know_only_some(tmp_path):
    last = rows(400, 9)
    tables = [*(rows(400, seed) for seed in range(3)), last.filter(pa.array(classes(last) < 2))]
    data = write(tmp_path / "train", tables, classes)
    wanted = hunt(
        data, Trials(FolderStore(tmp_path / "store"), "t"), trials=3, objective="multi:softprob", metric="mlogloss"
    )
    found = searched(tmp_path, data, wanted, objective="multi:softprob")
    assert found.best.value == min(trial.value for trial in found.trials)


def test_rows_that_cannot_judge_or_teach_are_refused_in_words(tmp_path):
    data = write(tmp_path / "train", [rows(300, 1), rows(300, 2)], binary)
    for file, words in (
        (data.files[1], "auc has no value on 300 validation rows"),
        (data.files[0], "trials would learn"),
    ):
        whole = pq.read_table(file)
        pq.write_table(
            whole.set_column(whole.schema.get_field_index("label"), "label", pa.array([1.0] * 300, pa.float32())), file
        )
        with pytest.raises(TrainingError, match=words):
            searched(tmp_path, data, hunt(data, Trials(FolderStore(tmp_path / "store"), "t"), trials=2))
        pq.write_table(whole, file)
    alone = TrainingData(data.files[:1])
    with pytest.raises(TrainingError, match="no labelled rows to train them on"):
        searched(tmp_path, alone, hunt(alone, Trials(FolderStore(tmp_path / "store"), "t"), trials=2))
