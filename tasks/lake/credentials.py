"""One S3 credential, rendered for each client: boto3 and delta-rs.

The credential comes from boto3's own chain (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a
profile, a role); delta-rs gets what boto3 found, so the two never act as different users.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tasks.errors import SpecError

if TYPE_CHECKING:
    from tasks.settings import Settings


def s3_client(settings: Settings) -> Any:
    """A boto3 S3 client. One client serves many threads."""
    import boto3
    from botocore.config import Config

    own_server = settings.s3_endpoint is not None
    config = Config(
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=min(10, settings.s3_timeout),
        read_timeout=settings.s3_timeout,
        max_pool_connections=16,
        s3={"addressing_style": "path"} if own_server else {},
        # Not every S3 server takes the trailing checksums that AWS clients send by default.
        **({"request_checksum_calculation": "when_required"} if own_server else {}),
        **({"response_checksum_validation": "when_required"} if own_server else {}),
    )
    _check_credentials()
    return boto3.client("s3", endpoint_url=settings.s3_endpoint, region_name=settings.s3_region, config=config)


def storage_options(uri: str, settings: Settings) -> dict[str, str]:
    """Options for delta-rs at a URI; empty for a folder.

    Rendered anew for each opened table, since a role's credential expires.
    """
    if not uri.startswith("s3://"):
        return {}
    credential = _check_credentials()
    options = {
        "AWS_REGION": settings.s3_region,
        "AWS_ACCESS_KEY_ID": credential.access_key,
        "AWS_SECRET_ACCESS_KEY": credential.secret_key,
        # Two writers of one log entry: the second must lose. Never AWS_S3_ALLOW_UNSAFE_RENAME.
        "conditional_put": "etag",
        "timeout": f"{round(settings.s3_timeout * 1000)}ms",
    }
    if credential.token:
        options["AWS_SESSION_TOKEN"] = credential.token
    if settings.s3_endpoint:
        options["AWS_ENDPOINT_URL"] = settings.s3_endpoint
        options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "false"
        if settings.s3_endpoint.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
            # delta-rs loads this bundle even for a plain-text endpoint and fails where it isn't PEM.
            os.environ.pop("AWS_CA_BUNDLE", None)
    return options


def _check_credentials() -> Any:
    import boto3

    credential = boto3.session.Session().get_credentials()
    if credential is None:
        raise SpecError(
            "the lake or the landing zone lies on S3, but there is no credential for it",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    return credential.get_frozen_credentials()
