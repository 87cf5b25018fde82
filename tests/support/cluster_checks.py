"""What every place of training must do, on whatever device: one process, clusters, CPU and CUDA."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.compute.checkpoints import Checkpoints
from tasks.compute.chunks import Chunk, Desk, do_chunks
from tasks.compute.encoding import Encoding, encode
from tasks.compute.metrics import metric
from tasks.compute.params import check_space
from tasks.compute.predict import Predictor, predict, scoring_device
from tasks.compute.rows import TrainingData, fit_encoding_files, survey
from tasks.compute.search import Found, Hunt, search
from tasks.compute.single import Single
from tasks.compute.spread import Spread
from tasks.compute.train import Place, Recipe, Trained, train_at
from tasks.compute.trials import Trials
from tasks.domain.search import SearchSpec
from tasks.errors import DigestError, TrainingError
from tasks.lake.objects import FolderStore

FEATURES = ("x", "carrier", "night")
_WEIGHTS = {"AA": 2.0, "UA": -1.0, "B6": 0.0, "WN": 1.0}


def rows(count: int, seed: int, carriers: str = "AA UA B6 WN") -> pa.Table:
    """Rows whose `risk` follows from a number, a text and a bool, with gaps."""
    random = np.random.default_rng(seed)
    x, carrier = random.normal(size=count), random.choice(carriers.split(), count)
    night = random.random(count) < 0.3
    risk = x + np.array([_WEIGHTS[name] for name in carrier], dtype=float) + night + random.normal(size=count)
    gaps = random.random(count) < 0.1
    return pa.table(
        {
            "x": pa.array(x, mask=gaps),
            "carrier": pa.array(carrier.tolist(), pa.string(), mask=np.roll(gaps, 1)),
            "night": night,
            "risk": risk,
            "partition_key": [f"2013-01-{seed % 28 + 1:02d}"] * count,
        }
    )


def binary(table: pa.Table) -> np.ndarray:
    return (table["risk"].to_numpy() > 1).astype(np.float32)


def classes(table: pa.Table) -> np.ndarray:
    return np.digitize(table["risk"].to_numpy(), [0, 2]).astype(np.float32)


def value(table: pa.Table) -> np.ndarray:
    return table["risk"].to_numpy().astype(np.float32)


def write(folder: Path, tables: list[pa.Table], label: Callable[[pa.Table], np.ndarray]) -> TrainingData:
    """Write tables as files of a training."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for place, table in enumerate(tables):
        labelled = table.append_column("label", pa.array(label(table), pa.float32())).drop_columns(["risk"])
        pq.write_table(labelled, folder / f"{place:03d}.parquet", row_group_size=500)
        files.append(str(folder / f"{place:03d}.parquet"))
    return TrainingData(tuple(files))


def _days(count: int, first: int = 0) -> list[pa.Table]:
    return [rows(400, seed) for seed in range(first, first + count)]


def _train(place: Place, data: TrainingData, objective: str, *, params=None, rounds=12, **more) -> Trained:
    recipe = Recipe(objective, {"max_depth": 4, "subsample": 0.8} if params is None else params, rounds, seed=5)
    return train_at(place, data, encoding=fit_encoding_files(data, FEATURES), recipe=recipe, **more)


def _scores(trained: Trained, data: TrainingData, table: pa.Table) -> np.ndarray:
    encoding = fit_encoding_files(data, FEATURES)
    return predict(trained.model, encode(table, encoding), encoding=encoding, threads=1)


def check_learns_and_follows_its_metrics(place: Place, folder: Path) -> None:
    data, new = write(folder / "train", _days(8), binary), pa.concat_tables(_days(3, 50))
    trained = _train(place, data, "binary:logistic")
    assert trained.device == place.device
    assert (trained.rows, trained.rounds, trained.empty, trained.resumed_from) == (3200, 12, (), 0)
    assert set(trained.history) == {"logloss", "auc"} and len(trained.history["auc"]) == 12
    whole = pa.concat_tables(_days(8))
    # Not by auc: with several workers XGBoost follows a mean of each worker's own.
    assert trained.history["logloss"][-1] == pytest.approx(
        metric("logloss", binary(whole), _scores(trained, data, whole)), rel=1e-4
    )
    assert metric("auc", binary(new), _scores(trained, data, new)) > 0.8


def check_goes_on_from_a_checkpoint(place: Place, folder: Path) -> None:
    data, new = write(folder / "train", _days(6), binary), rows(800, 60)
    broken = Checkpoints(FolderStore(folder / "store"), "broken", every=5)
    # fewer rounds than the training has: what a killed one leaves behind
    _train(place, data, "binary:logistic", rounds=8, checkpoints=broken)
    assert broken.latest().rounds == 5
    resumed = _train(place, data, "binary:logistic", checkpoints=broken)
    assert (resumed.resumed_from, resumed.rounds) == (5, 12) and broken.latest().rounds == 10
    assert len(resumed.history["logloss"]) == 12
    # XGBoost saves no generator state: with subsampling a resumed model is as good as an unbroken one, not equal
    unbroken = _train(place, data, "binary:logistic")
    ours, theirs = (metric("auc", binary(new), _scores(one, data, new)) for one in (resumed, unbroken))
    assert ours == pytest.approx(theirs, abs=0.01)
    broken.clear()
    assert broken.latest() is None


def check_trains_from_external_memory(place: Place, folder: Path) -> None:
    data, new = write(folder / "train", _days(8), binary), rows(800, 60)
    trained = _train(replace(place, external=True), data, "binary:logistic")
    assert metric("auc", binary(new), _scores(trained, data, new)) > 0.8


def check_agrees_with_plain_xgboost(place: Place, folder: Path) -> None:
    import xgboost

    data, new = write(folder, _days(8), binary), pa.concat_tables(_days(3, 50))
    trained = _train(place, data, "binary:logistic", params={"max_depth": 4})
    encoding = fit_encoding_files(data, FEATURES)
    whole = pa.concat_tables([pq.read_table(file) for file in data.files])
    matrix = xgboost.QuantileDMatrix(
        encode(whole, encoding), whole["label"].to_numpy(), feature_types=list(encoding.kinds), enable_categorical=True
    )
    parameters = {"objective": "binary:logistic", "max_depth": 4, "eta": 0.1, "seed": 5, "nthread": 1}
    plain = xgboost.train(parameters, matrix, 12)
    expected = plain.inplace_predict(encode(new, encoding))
    ours = _scores(trained, data, new)
    assert np.abs(ours - expected).mean() < 0.01
    assert metric("auc", binary(new), ours) == pytest.approx(metric("auc", binary(new), expected), abs=5e-3)


def check_trains_several_classes(place: Place, folder: Path) -> None:
    # The last file knows only one class: the number of classes comes from all of them.
    tables = [*_days(6), rows(400, 9).filter(pa.array(classes(rows(400, 9)) == 0))]
    data, new = write(folder, tables, classes), rows(800, 60)
    trained = _train(place, data, "multi:softprob")
    scores = _scores(trained, data, new)
    assert trained.classes == 3 and scores.shape == (800, 3)
    assert metric("accuracy", classes(new), scores) > 0.5


def check_trains_a_regression(place: Place, folder: Path) -> None:
    data, new = write(folder, _days(6), value), rows(800, 60)
    for objective in ("reg:squarederror", "reg:absoluteerror"):
        trained = _train(place, data, objective, rounds=30)
        error = metric("mae", value(new), _scores(trained, data, new))
        assert error < 0.75 * metric("mae", value(new), np.full(800, np.median(value(new)))), objective


def check_copes_with_empty_and_skewed_files(place: Place, folder: Path) -> None:
    tables = [rows(0, 1), rows(4000, 2, "AA UA"), rows(1, 3, "B6"), rows(0, 4), rows(30, 5, "WN")]
    data = write(folder / "train", tables, binary)
    trained = _train(place, data, "binary:logistic")
    assert trained.rows == 4031
    assert np.isfinite(_scores(trained, data, rows(100, 8))).all()


def check_refuses_what_makes_no_model(place: Place, folder: Path) -> None:
    one_class = write(folder / "one", _days(2), lambda table: np.ones(len(table), np.float32))
    with pytest.raises(TrainingError, match="every label of the training data is 1"):
        _train(place, one_class, "binary:logistic")
    nothing = write(folder / "none", [rows(0, 1), rows(0, 2)], binary)
    with pytest.raises(TrainingError, match="no rows in 2 files"):
        _train(place, nothing, "binary:logistic")
    numbers = write(folder / "numbers", _days(1), value)
    with pytest.raises(TrainingError, match="needs labels that are 0 and 1; the training data has labels from -"):
        _train(place, numbers, "binary:logistic")


def check_names_features_without_any_value(place: Place, folder: Path) -> None:
    tables = [table.set_column(0, "x", pa.nulls(len(table), pa.float64())) for table in _days(3)]
    trained = _train(place, write(folder, tables, binary), "binary:logistic")
    assert trained.empty == ("x",)


def check_explains_on_its_device(place: Place, folder: Path) -> None:
    data, new = write(folder / "train", _days(6), binary), rows(300, 60)
    encoding, model = fit_encoding_files(data, FEATURES), _train(place, data, "binary:logistic").model
    matrix = encode(new, encoding)
    ours, theirs = (Predictor(model, encoding=encoding, threads=1, device=device) for device in (place.device, "cpu"))
    found = ours.contributions(matrix)
    assert found == pytest.approx(theirs.contributions(matrix), abs=1e-4)
    assert 1 / (1 + np.exp(-found.sum(axis=1))) == pytest.approx(ours.predict(matrix), abs=1e-4)


def check_chunks_are_scored_on_the_places_device(place: Spread, folder: Path) -> None:
    """On a cluster only: each chunk by a worker, and one that is refused leaves the others as they are."""
    data = write(folder / "train", _days(6), binary)
    encoding, model = fit_encoding_files(data, FEATURES), _train(place, data, "binary:logistic").model
    days = _days(5, 50)
    works = [partial(_predict_chunk, model, encoding, day) for day in days]
    works.insert(2, partial(_predict_chunk, b"no model", encoding, days[0]))
    told: list[int] = []
    chunks = [Chunk(f"score-{number}", work) for number, work in enumerate(works)]
    found = do_chunks(place, chunks, ended=told.append)
    assert sorted(told) == list(range(6))
    refused = found.pop(2)
    assert isinstance(refused.error, DigestError) and refused.value is None
    for day, one in zip(days, found, strict=True):
        device, scores = one.value
        assert device == ("cuda" if place.device == "cuda" else scoring_device())
        assert scores == pytest.approx(predict(model, encode(day, encoding), encoding=encoding, threads=1), abs=1e-5)


def _predict_chunk(model: bytes, encoding: Encoding, rows: pa.Table, desk: Desk) -> tuple[str, np.ndarray]:
    desk.check()
    predictor = Predictor(model, encoding=encoding, threads=desk.threads, device=scoring_device())
    return predictor.device, predictor.predict(encode(rows, encoding))


def check_searches_on_its_device(place: Single, folder: Path) -> None:
    data, kept = write(folder / "train", _days(6), binary), Trials(FolderStore(folder / "store"), "trials")
    asked = SearchSpec(trials=5, space={"max_depth": [1, 6], "eta": [0.01, 0.5, "log"]})
    space = check_space("binary:logistic", {}, asked.space)

    def find(trials: int) -> Found:
        return search(
            lambda: nullcontext(place),
            data,
            seen=survey(data, FEATURES),
            encoding=fit_encoding_files(data, FEATURES),
            recipe=Recipe("binary:logistic", {}, rounds=6, seed=5),
            hunt=Hunt(space, trials, "auc", frozenset(data.files[-2:]), kept),
        )

    begun, found = find(2), find(5)
    assert found.trials[:2] == begun.trials and len(found.trials) == 5 and found.rows == (1600, 800)
    assert {(trial.device, trial.way, trial.error) for trial in found.trials} == {(place.device, place.way, "")}
    assert found.best.value == max(trial.value for trial in found.trials) > 0.8
    for trial in found.trials:
        assert trial.history["auc"][-1] == pytest.approx(trial.value, abs=1e-4)  # XGBoost's, and the gate's
    assert (found.gpu_seconds > 0) == (place.device == "cuda") and found.cpu_seconds > 0


CHECKS = (
    check_learns_and_follows_its_metrics,
    check_agrees_with_plain_xgboost,
    check_trains_several_classes,
    check_trains_a_regression,
    check_copes_with_empty_and_skewed_files,
    check_goes_on_from_a_checkpoint,
    check_trains_from_external_memory,
    check_refuses_what_makes_no_model,
    check_names_features_without_any_value,
    check_explains_on_its_device,
)
SINGLE_CHECKS = (check_searches_on_its_device,)
CLUSTER_CHECKS = (check_chunks_are_scored_on_the_places_device,)
