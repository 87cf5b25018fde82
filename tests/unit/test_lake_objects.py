"""Folders as stores, addresses, and one credential for each client."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.errors import SpecError, StorageError
from tasks.lake import open_lake, open_landing
from tasks.lake.credentials import s3_client, storage_options
from tasks.lake.objects import FolderStore
from tasks.lake.s3 import S3Store
from tasks.settings import Settings


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return Settings(home=tmp_path, lake="s3://bucket/a/b/", s3_endpoint="http://s3.test:9000", s3_region="eu-west-1")


def test_a_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "lake")
    for key in ("../x", "a/../../x", "/etc/x", "", "a//b", "a/."):
        with pytest.raises(ValueError, match="no object key"):
            store.put(key, b"x")
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_are_no_objects_and_none_stay_behind(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"1")
    assert store.put_if_absent("a/c", b"2") and not store.put_if_absent("a/c", b"3")
    (tmp_path / "a" / ".0123.tmp").write_bytes(b"of a writer that died")
    assert [info.key for info in store.list("a/")] == ["a/b", "a/c"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".0123.tmp", "b", "c"]


def test_a_folder_where_a_file_is_wanted_is_missing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a/b", b"1")
    assert not store.exists("a") and store.head("a/b/c") is None
    with pytest.raises(FileNotFoundError):
        store.get("a")


def test_a_file_where_a_folder_is_wanted_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"")
    with pytest.raises(StorageError, match="lake"):
        FolderStore(tmp_path / "lake").put("a/b", b"1")


def test_the_landing_zone_takes_absolute_addresses_only(tmp_path: Path) -> None:
    landing = open_landing(Settings(home=tmp_path))
    landing.put(f"{tmp_path}/land here/x", b"1")
    assert landing.get(f"file://{tmp_path}/land%20here/x") == b"1"
    with pytest.raises(ValueError, match="no absolute URI"):
        landing.get("landing/x")


def test_opening_a_lake_makes_nothing(tmp_path: Path) -> None:
    lake = open_lake(Settings(home=tmp_path / "home"))
    assert lake.table("a/b").entries() == {} and lake.objects.list() == []
    assert not (tmp_path / "home").exists()


def test_one_credential_reaches_both_clients(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    options = storage_options("s3://bucket/a/b/t", s3)
    assert options["AWS_ACCESS_KEY_ID"] == "key" and options["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert options["AWS_SESSION_TOKEN"] == "token" and options["AWS_REGION"] == "eu-west-1"
    assert options["AWS_ENDPOINT_URL"] == "http://s3.test:9000" and options["AWS_ALLOW_HTTP"] == "true"
    client = s3_client(s3)
    assert client.meta.endpoint_url == "http://s3.test:9000" and client.meta.region_name == "eu-west-1"
    client.close()
    store = open_lake(s3).objects
    assert isinstance(store, S3Store) and (store.bucket, store.prefix) == ("bucket", "a/b/")


def test_plain_http_is_allowed_for_a_plain_endpoint_only(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/some/bundle")
    secure = storage_options("s3://bucket/t", s3.model_copy(update={"s3_endpoint": "https://s3.test"}))
    assert "AWS_ALLOW_HTTP" not in secure and os.environ["AWS_CA_BUNDLE"] == "/some/bundle"
    amazon = storage_options("s3://bucket/t", s3.model_copy(update={"s3_endpoint": None}))
    assert not {"AWS_ALLOW_HTTP", "AWS_ENDPOINT_URL"} & amazon.keys()
    storage_options("s3://bucket/t", s3)
    assert "AWS_CA_BUNDLE" not in os.environ
    assert storage_options("/a/folder", s3) == {}


def test_no_credential_is_a_clear_error(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SpecError, match="AWS_ACCESS_KEY_ID"):
        open_lake(s3).objects.get("x")
