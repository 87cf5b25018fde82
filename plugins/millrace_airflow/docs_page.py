"""Where the Data Docs pages hang in Airflow's server.

Every process of Airflow loads its plugins, so the application is imported at the first request.
"""

from __future__ import annotations

from typing import Any

PREFIX = "/millrace"


class DocsApp:
    """An ASGI application that comes into being when it is asked."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from millrace_airflow.docs_app import app

        await app(scope, receive, send)
