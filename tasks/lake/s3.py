"""Named bytes in a bucket (boto3)."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import StorageError
from tasks.lake.objects import ObjectInfo

if TYPE_CHECKING:
    from tasks.settings import Settings

_MISSING = ("NoSuchKey", "404", "NotFound")
_DENIED = ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")
_CONFLICTS = 20  # rounds of a conditional put against other writers in flight


class S3Store:
    """Objects below `s3://bucket/prefix`; connects when first used."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._settings = settings

    def __getstate__(self) -> dict[str, Any]:
        """Travels to Dask workers: without its connection, and without settings that are not S3's own."""
        settings = self._settings.model_copy(update={"database": None, "mlflow": None, "mlflow_database": None})
        return {"bucket": self.bucket, "prefix": self.prefix, "_settings": settings}

    @cached_property
    def _client(self) -> Any:
        from tasks.lake.credentials import s3_client

        return s3_client(self._settings)

    def get(self, key: str) -> bytes:
        with self._said(key):
            return self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        wanted = f"bytes={start}-{start + length - 1}"  # both ends included
        with self._said(key):
            return self._client.get_object(Bucket=self.bucket, Key=self.prefix + key, Range=wanted)["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        with self._said(key):
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data)

    def put_file(self, key: str, path: Path) -> None:
        with self._said(key):
            self._client.upload_file(str(path), self.bucket, self.prefix + key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        with self._said(key):
            for _ in range(_CONFLICTS):
                try:
                    self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, IfNoneMatch="*")
                    return True
                except ClientError as error:
                    answer = error.response["ResponseMetadata"]
                    if answer["HTTPStatusCode"] == 412:
                        # The answer to an earlier try may have been lost on the way: then the object is ours.
                        return bool(answer.get("RetryAttempts")) and self.get(key) == data
                    if answer["HTTPStatusCode"] != 409:  # 409: another conditional put is in flight
                        raise
        raise StorageError(f"s3://{self.bucket}/{self.prefix}{key} stayed in conflict", hint="run the step again")

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._said(key):
                answer = self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except FileNotFoundError:
            return None
        return ObjectInfo(key, answer["ContentLength"], _moment(answer["LastModified"]))

    def exists(self, key: str) -> bool:
        return self.head(key) is not None

    def list(self, prefix: str = "", *, after: str = "") -> list[ObjectInfo]:
        extra = {"StartAfter": self.prefix + after} if after else {}
        with self._said(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix, **extra
            )
            return [
                ObjectInfo(item["Key"].removeprefix(self.prefix), item["Size"], _moment(item["LastModified"]))
                for page in pages
                for item in page.get("Contents", ())
            ]

    def delete(self, key: str) -> None:
        with self._said(key):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def sweep(self, before: datetime, *, dry_run: bool = False) -> int:
        count = 0
        with self._said(""):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=self.prefix
            )
            for upload in (one for page in pages for one in page.get("Uploads", ())):
                if upload["Initiated"] < before:
                    count += 1
                    if not dry_run:
                        self._client.abort_multipart_upload(
                            Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
        return count

    @contextmanager
    def _said(self, key: str):
        """Turns boto3's errors into ours, with the object's address."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self.bucket}/{self.prefix}{key}"
        try:
            yield
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            if code in _MISSING:
                raise FileNotFoundError(f"there is no object {where}") from error
            hint = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy" if code in _DENIED else ""
            raise StorageError(f"{where}: {error}", hint=hint) from error
        except (BotoCoreError, Boto3Error) as error:
            raise StorageError(f"{where}: {error}", hint="is the S3 endpoint up and right?") from error


def _moment(modified: datetime) -> datetime:
    # A header has whole seconds, some servers' listings have more: one object, one moment.
    return modified.astimezone(UTC).replace(microsecond=0)
