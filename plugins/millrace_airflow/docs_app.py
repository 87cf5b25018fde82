"""`/millrace/docs/<source>/<key>/<revision>`: a Data Docs page of the lake, for signed-in people only."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response

from tasks.errors import MillraceError
from tasks.lake import open_lake
from tasks.settings import load_settings

# The page holds delivered values: it gets no access to Airflow's origin, whatever is in it.
_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts allow-popups; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}

app = FastAPI(title="Millrace", docs_url=None, redoc_url=None, openapi_url=None)


def may_read(source: str, request: Request, user: GetUserDep) -> None:
    """Airflow's own check: who may see the source's task instances may see what they checked."""
    requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE, f"{source}__ingest")(request, user)


@app.get("/docs/{source}/{key}/{revision}", dependencies=[Depends(may_read)])
def data_docs(
    source: Annotated[str, Path(pattern=r"^[a-z0-9_]+$")],
    key: Annotated[str, Path(pattern=r"^[0-9A-Za-z+-]+$")],
    revision: Annotated[int, Path(ge=1)],
) -> Response:
    """The page that `validate` wrote for one revision of a partition."""
    name = f"sources/{source}/docs/{key}.{revision}.html"
    try:
        lake = open_lake(load_settings()).objects
        if not lake.exists(name):
            raise HTTPException(404, f"there is no page {name}")
        page = lake.get(name)
    except MillraceError as error:
        raise HTTPException(503, str(error)) from error
    return Response(page, media_type="text/html; charset=utf-8", headers=_HEADERS)
