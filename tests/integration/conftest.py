"""Real servers, started once; and a project whose first champion was trained once, for tests to copy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.forked_steps import ForkedSteps, forked_steps
from tests.support.kill_points import Workshop
from tests.support.mlflow_server import mlflow_server
from tests.support.pipelines import write_config
from tests.support.project import Project, make_project
from tests.support.project import first_champion as make_first_champion
from tests.support.s3 import CREDENTIALS, make_bucket, s3_server


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with warnings.catch_warnings():
        # MLflow warns about its own type hints when these modules are first read; later warnings count.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import mlflow.xgboost  # noqa: F401
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield endpoint


@pytest.fixture(scope="session")
def new_bucket(s3_endpoint: str) -> Callable[[], str]:
    return lambda: make_bucket(s3_endpoint)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project of live sources and one pipeline `late_orders`, in a folder; MLflow is not there."""
    write_config(tmp_path / "config", "late_orders", live=True)
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def first_champion(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Project:
    """A historical January, clean, and the champion of `late_orders` that was trained from it. Copy before use."""
    return make_first_champion(tmp_path_factory.mktemp("champion"), mlflow_uri)


@pytest.fixture
def champion(first_champion: Project, tmp_path: Path) -> Project:
    """A copy of its own of `first_champion`."""
    return first_champion.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def steps() -> Iterator[ForkedSteps]:
    """A process that has imported everything and forks commands."""
    with forked_steps() as found:
        yield found


@pytest.fixture(scope="session")
def workshop(steps: ForkedSteps, first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Projects in the states that writing verbs begin with; after the first champion, which others know as version 1."""
    return Workshop(tmp_path_factory.mktemp("workshop"), first_champion.settings.mlflow, steps)
