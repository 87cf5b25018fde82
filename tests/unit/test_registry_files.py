"""The MLflow model written from bytes, and what importing the gateway costs."""

from __future__ import annotations

import hashlib
import pickletools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost

from tasks.registry.model_files import write_model
from tasks.registry.records import TrainingRecord


@pytest.fixture
def record() -> TrainingRecord:
    random = np.random.default_rng(0)
    matrix = np.column_stack([random.normal(size=300), random.integers(0, 3, 300)]).astype(np.float32)
    data = xgboost.QuantileDMatrix(
        matrix,
        (matrix[:, 1] > 0).astype(float),
        feature_names=["x", "carrier"],
        feature_types=["q", "c"],
        enable_categorical=True,
    )
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, data, 5)
    model = bytes(booster.save_raw("ubj"))
    return TrainingRecord(
        pipeline="flight_delays",
        training_key="2013-05",
        run_name="train 2013-05",
        params={"eta": 0.1},
        metrics={"auc": 0.65},
        history={"train": {"logloss": [0.6, 0.5]}},
        inputs={"sources/weather/clean": 3},
        features=(("x", "q"), ("carrier", "c")),
        model=model,
        digest=hashlib.sha256(model).hexdigest(),
    )


@pytest.fixture
def folder(record: TrainingRecord, tmp_path: Path) -> Path:
    write_model(tmp_path, record, run_id="r" * 32, model_id="m-1", location="mlflow-artifacts:/1/models/m-1")
    return tmp_path


def test_the_files_hold_the_models_own_bytes_and_no_pickle(record, folder):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"MLmodel", "model.ubj", "requirements.txt", "python_env.yaml"}
    assert files["model.ubj"] == record.model
    for name, content in files.items():
        with pytest.raises(ValueError):
            list(pickletools.genops(content))
        assert b"pickle" not in content, name


# MLflow warns about its own type hints when its module is first read.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_mlflow_loads_it_as_xgboost_and_as_a_python_function(record, folder):
    import mlflow

    assert bytes(mlflow.xgboost.load_model(str(folder)).save_raw("ubj")) == record.model
    model = mlflow.pyfunc.load_model(str(folder))
    rows = pd.DataFrame({"x": [0.1, np.nan], "carrier": [2.0, 0.0]})
    scores = model.predict(rows)
    assert scores.dtype == np.float32 and scores[0] > 0.5 > scores[1]
    assert [(column.name, str(column.type)) for column in model.metadata.signature.inputs] == [
        ("x", "DataType.double"),
        ("carrier", "DataType.double"),
    ]


def test_the_requirements_name_the_versions_in_use(folder):
    assert f"xgboost=={xgboost.__version__}\n" in (folder / "requirements.txt").read_text()


def test_importing_the_gateways_loads_no_heavy_library():
    code = (
        "import sys, tasks.registry, tasks.compute.params, tasks.compute.encoding, tasks.compute.metrics, "
        "tasks.compute.cluster, tasks.compute.train, tasks.compute.scoring\n"
        "print([name for name in ('mlflow', 'dask', 'distributed', 'xgboost', 'pandas') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
