"""What a store of objects does, in a folder and on S3."""

from __future__ import annotations

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from tasks.errors import DigestError, StorageError, UnsafeStoreError
from tasks.lake import check_store, open_lake, open_landing
from tasks.lake.credentials import s3_client
from tasks.settings import Settings
from tests.support.rows import put
from tests.support.s3 import S3Proxy

WRITERS = 8


def test_an_object_is_read_back_as_written(storage: Settings) -> None:
    store = open_lake(storage).objects
    store.put("evidence/a b+c%20.json", b"one")
    store.put("evidence/a b+c%20.json", b"two")
    assert store.get("evidence/a b+c%20.json") == b"two"
    assert store.exists("evidence/a b+c%20.json")


def test_a_large_file_is_put_whole(storage: Settings, tmp_path: Path) -> None:
    store = open_lake(storage).objects
    data = bytes(range(256)) * 40_000  # more than one part of a multipart upload
    (tmp_path / "file").write_bytes(data)
    store.put_file("big/file", tmp_path / "file")
    assert store.get("big/file") == data
    with pytest.raises(FileNotFoundError):
        store.put_file("big/file", tmp_path / "no such file")
    assert store.get("big/file") == data


def test_a_part_of_an_object_is_read_alone(storage: Settings) -> None:
    store = open_lake(storage).objects
    store.put("a/b", b"0123456789")
    assert [store.get_range("a/b", *part) for part in ((0, 3), (4, 1), (7, 3), (8, 9))] == [b"012", b"4", b"789", b"89"]


def test_a_missing_object_is_missing_in_each_operation(storage: Settings) -> None:
    store = open_lake(storage).objects
    assert not store.exists("no/thing")
    assert store.head("no/thing") is None
    assert store.list("no/") == []
    store.delete("no/thing")
    with pytest.raises(FileNotFoundError, match="no/thing"):
        store.get("no/thing")
    with pytest.raises(FileNotFoundError, match="no/thing"):
        store.get_range("no/thing", 0, 1)


def test_a_listing_is_sorted_and_knows_size_and_moment(storage: Settings) -> None:
    store = open_lake(storage).objects
    for key in ("d/2/x", "d/10", "d/21", "dd/1", "e"):
        store.put(key, key.encode())
    found = store.list("d/")
    assert [info.key for info in found] == ["d/10", "d/2/x", "d/21"]
    assert [info.size for info in found] == [len(info.key) for info in found]
    now = datetime.now(UTC)
    assert all(abs(now - info.modified) < timedelta(minutes=1) for info in found)
    assert store.head(found[0].key) == found[0]
    assert [info.key for info in store.list("d/", after="d/10")] == [info.key for info in found[1:]]
    assert len(store.list("d")) == len(store.list("")) - 1


def test_a_deleted_object_is_gone(storage: Settings) -> None:
    store = open_lake(storage).objects
    store.put("a/b", b"x")
    store.delete("a/b")
    assert not store.exists("a/b") and store.list() == []


def test_what_a_killed_writer_left_of_an_object_is_swept_when_it_is_old(storage: Settings) -> None:
    objects = open_lake(storage).objects
    objects.put("a/whole.json", b"{}")
    if storage.lake_uri.startswith("s3://"):
        bucket, _, prefix = storage.lake_uri.removeprefix("s3://").partition("/")
        s3_client(storage).create_multipart_upload(Bucket=bucket, Key=f"{prefix}/a/half.parquet")
    else:
        (Path(storage.lake_uri) / "a" / f".{uuid.uuid4().hex}.tmp").write_bytes(b"half")
    now = datetime.now(UTC)
    assert objects.sweep(now - timedelta(hours=1)) == 0
    assert objects.sweep(now + timedelta(hours=1), dry_run=True) == 1
    assert objects.sweep(now + timedelta(hours=1)) == 1
    assert objects.sweep(now + timedelta(hours=1)) == 0
    assert objects.get("a/whole.json") == b"{}"


def test_of_many_writers_of_a_new_key_exactly_one_wins(storage: Settings) -> None:
    store = open_lake(storage).objects
    start = Barrier(WRITERS, timeout=60)

    def race(writer: int, key: str) -> bool:
        start.wait()
        return store.put_if_absent(key, f"{writer}".encode() * 1000)

    with ThreadPoolExecutor(WRITERS) as pool:
        for number in range(10):
            key = f"race/{number}"
            won = list(pool.map(race, range(WRITERS), [key] * WRITERS))
            assert won.count(True) == 1
            assert store.get(key) == f"{won.index(True)}".encode() * 1000
    assert len(store.list("race/")) == 10


def test_a_model_is_kept_under_its_digest(storage: Settings) -> None:
    lake = open_lake(storage)
    digest = lake.put_model(b"model")
    assert digest == lake.put_model(b"model") == hashlib.sha256(b"model").hexdigest()
    assert lake.get_model(digest) == b"model"
    lake.objects.put(f"models/{digest}.ubj", b"other")
    with pytest.raises(DigestError, match=digest):
        lake.get_model(digest)


def test_the_landing_zone_is_read_by_absolute_uri(storage: Settings) -> None:
    landing = open_landing(storage)
    root = f"{storage.lake_uri}/landing"
    landing.put(f"{root}/schedule/2013-01-05.csv.gz", b"rows")
    found = landing.list(f"{root}/schedule/")
    assert [info.key for info in found] == [f"{root}/schedule/2013-01-05.csv.gz"]
    assert landing.get(found[0].key) == b"rows" and landing.head(found[0].key) == found[0]
    assert landing.get_range(found[0].key, 1, 2) == b"ow"
    assert landing.list(f"{root}/schedule/", after=found[0].key) == []
    assert not landing.put_if_absent(found[0].key, b"others")
    landing.delete(found[0].key)
    assert not landing.exists(found[0].key)


def test_a_good_store_passes_the_check_and_is_left_empty(storage: Settings) -> None:
    check_store(storage)
    assert open_lake(storage).objects.list() == []


def test_a_store_that_ignores_the_condition_is_refused(s3_settings: Settings, s3_endpoint: str) -> None:
    with S3Proxy(s3_endpoint, strip_condition=True) as proxy:
        bad = s3_settings.model_copy(update={"s3_endpoint": proxy.endpoint})
        with pytest.raises(UnsafeStoreError, match="two writers"):
            check_store(bad)
        table = open_lake(bad).table("sources/weather/clean")
        with pytest.raises(UnsafeStoreError, match="two writers"):
            put(table, ("2013-11-03", 1), [1])
        assert table.version() == -1


def test_a_missing_bucket_is_no_unsafe_store(s3_settings: Settings) -> None:
    with pytest.raises(StorageError, match="no-such-bucket"):
        check_store(s3_settings.model_copy(update={"lake": "s3://no-such-bucket/lake"}))


def test_a_conditional_put_whose_answer_was_lost_is_still_a_win(s3_settings: Settings, s3_endpoint: str) -> None:
    with S3Proxy(s3_endpoint, lose_answer="/lake/ledger/x") as proxy:
        store = open_lake(s3_settings.model_copy(update={"s3_endpoint": proxy.endpoint})).objects
        assert store.put_if_absent("ledger/x", b"mine")
        assert len(proxy.lost) == 1
    assert not open_lake(s3_settings).objects.put_if_absent("ledger/x", b"theirs")


def test_an_unreachable_store_is_a_transient_error_with_its_address(s3_settings: Settings) -> None:
    store = open_lake(s3_settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})).objects
    with pytest.raises(StorageError, match="s3://lake-") as caught:
        store.get("a")
    assert caught.value.retry and caught.value.hint
