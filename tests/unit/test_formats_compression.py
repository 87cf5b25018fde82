"""Compressed deliveries: what is opened, and which are refused."""

import bz2
import gzip
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.errors import FileError
from tasks.formats import compression
from tasks.formats.compression import decompress

TEXT = b"a,b\n1,2\n" * 1000


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


PACKED = {"none": TEXT, "gzip": gzip.compress(TEXT), "zip": zipped(x=TEXT), "zstd": zstd(TEXT)}


def failure(data, kind):
    with pytest.raises(FileError) as caught:
        decompress(data, compression=kind, uri="x")
    return str(caught.value)


@pytest.mark.parametrize("kind", PACKED)
def test_each_compression_is_opened(kind):
    assert decompress(PACKED[kind], compression=kind, uri="x") == TEXT


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_several_members_are_one_file(kind):
    assert decompress(PACKED[kind] * 2, compression=kind, uri="x") == TEXT * 2


@pytest.mark.parametrize("kind", ["gzip", "zip", "zstd"])
def test_truncated_data_is_refused(kind):
    for keep in (5, 20, len(PACKED[kind]) // 2, len(PACKED[kind]) - 1):
        message = failure(PACKED[kind][:keep], kind)
        assert "cut short" in message or "damaged" in message


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_damaged_data_is_refused(kind):
    # zstd frames carry a checksum only where the writer wants one: their damage shows in the text
    text = Path(__file__).read_bytes()
    data = bytearray(gzip.compress(text) if kind == "gzip" else zipped(x=text))
    data[len(data) // 2] ^= 0xFF
    data[len(data) // 3] ^= 0xFF
    assert "damaged" in failure(bytes(data), kind)


@pytest.mark.parametrize("kind", ["gzip", "zip", "zstd"])
def test_data_of_another_kind_is_refused(kind):
    assert "expected" in failure(TEXT, kind)
    assert "is empty" in failure(b"", kind)
    for other, data in PACKED.items():
        if other not in (kind, "none"):
            assert f"is {other}" in failure(data, kind)


def test_compressed_data_under_a_plain_name_is_refused_with_its_kind():
    assert "declare compression: gzip" in failure(PACKED["gzip"], "none")


def test_a_zip_holds_exactly_one_file():
    assert "found 2: a, b" in failure(zipped(a=b"1", b=b"2"), "zip")
    assert "found 0" in failure(zipped(**{"folder/": b"", "__MACOSX/x": b"1"}), "zip")
    assert decompress(zipped(**{"__MACOSX/x": b"1", "d/x": TEXT}), compression="zip", uri="x") == TEXT


@pytest.mark.parametrize("kind", ["gzip", "zip", "zstd"])
def test_an_archive_bomb_is_refused_before_it_is_opened_whole(kind, monkeypatch):
    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(compression, "_STEP", 1 << 16)
    zeros = bytes(20 << 20)
    bomb = {"gzip": gzip.compress(zeros), "zip": zipped(x=zeros), "zstd": zstd(zeros)}[kind]
    assert "archive bomb" in failure(bomb, kind)


def test_a_file_may_expand_up_to_the_free_size_whatever_its_ratio():
    zeros = bytes(20 << 20)
    assert len(decompress(zstd(zeros), compression="zstd", uri="x")) == len(zeros)


def test_no_other_compression_is_taken():
    assert "not known" in failure(bz2.compress(TEXT), "bz2")
