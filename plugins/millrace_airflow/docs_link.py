"""The link from a task to the Data Docs page of the partition that it checked."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

_PAGE = re.compile(r"sources/([a-z0-9_]+)/docs/([0-9A-Za-z+-]+)\.(\d+)\.html")


def docs_in(result: Any) -> str | None:
    """Address of the last page that a step's result, or its error, names; None when it names none."""
    pages = _PAGE.findall(json.dumps(result))
    if not pages:
        return None
    source, key, revision = pages[-1]
    from airflow.sdk.configuration import conf  # here, since reading it takes 0.4 s

    # Airflow may be served below a path of its own.
    base = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
    return f"{base}/millrace/docs/{source}/{quote(key)}/{revision}"


class DataDocsLink(BaseOperatorLink):
    """A button on the task: the report of the partition's contract."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return getattr(operator, "docs", None) or ""
