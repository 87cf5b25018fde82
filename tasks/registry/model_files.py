"""An MLflow model of flavor xgboost, written file by file from the model's bytes.

MLflow's own `log_model` takes a live booster: XGBoost would be loaded here and would write the model
anew. Written from the bytes, MLflow's copy is the lake's copy, bit by bit, under the same digest, and
no pickle is near it.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.registry.records import TrainingRecord

MODEL_FILE = "model.ubj"


def write_model(folder: Path, record: TrainingRecord, *, run_id: str, model_id: str, location: str) -> None:
    """Write the model's files into a folder.

    Args:
        folder: exists and is empty.
        record: the training.
        run_id: MLflow's run.
        model_id: MLflow's logged model.
        location: where its artifacts will lie.
    """
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature

    xgboost = _xgboost_version()
    (folder / MODEL_FILE).write_bytes(record.model)
    (folder / "requirements.txt").write_text(f"mlflow=={version('mlflow')}\nxgboost=={xgboost}\n")
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n"
    )
    model = Model(artifact_path=location, model_uuid=model_id, run_id=run_id, model_id=model_id)
    model.signature = ModelSignature(inputs=_inputs(record), outputs=_outputs(record))
    model.metadata = {"digest": record.digest, "training_key": record.training_key}
    model.model_size_bytes = len(record.model)
    # What `mlflow.pyfunc.add_to_model` would write; importing it takes a second and warns of its own type hints.
    model.add_flavor(
        "python_function",
        loader_module="mlflow.xgboost",
        python_version=platform.python_version(),
        data=MODEL_FILE,
        env={"virtualenv": "python_env.yaml"},
    )
    model.add_flavor(
        "xgboost",
        xgb_version=xgboost,
        data=MODEL_FILE,
        model_class="xgboost.core.Booster",
        model_format="ubj",
        code=None,
    )
    model.save(str(folder / "MLmodel"))


def _inputs(record: TrainingRecord):
    from mlflow.types import ColSpec, DataType, Schema

    # The model reads the encoded matrix, in which a category is a number; doubles take every number.
    return Schema([ColSpec(DataType.double, name, required=False) for name, _ in record.features])


def _outputs(record: TrainingRecord):
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    shape = (-1,) if record.classes is None else (-1, record.classes)
    return Schema([TensorSpec(np.dtype("float32"), shape)])


def _xgboost_version() -> str:
    # Only the name differs: xgboost-cpu installs the same module.
    for name in ("xgboost", "xgboost-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "3.2.0"
