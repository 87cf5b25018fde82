"""One behaviour suite over several implementations: `storage` is a folder, then a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.settings import Settings
from tests.support.s3 import CREDENTIALS, make_bucket, s3_server


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def s3_settings(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return Settings(home=tmp_path, lake=f"s3://{make_bucket(s3_endpoint)}/lake", s3_endpoint=s3_endpoint)


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of an empty lake on each storage."""
    return Settings(home=tmp_path) if request.param == "folder" else request.getfixturevalue("s3_settings")
