"""Run in a process of its own: asks Airflow's server application for Data Docs pages.

Arguments: `source/key/revision` of each page. Prints one JSON line: the status of each answer to
nobody, to a forged token, and to the administrator by header and by cookie; and the page's policy.
"""

from __future__ import annotations

import json
import sys

from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient


def main(pages: list[str]) -> None:
    client = TestClient(create_app(apps="core"))
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
    callers = {
        "nobody": {},
        "forged": {"Authorization": f"Bearer {token[:-4]}AAAA"},
        "header": {"Authorization": f"Bearer {token}"},
        "cookie": {"Cookie": f"_token={token}"},
    }
    answers = {
        name: [client.get(f"/millrace/docs/{page}", headers=headers) for page in pages]
        for name, headers in callers.items()
    }
    statuses = {name: [one.status_code for one in found] for name, found in answers.items()}
    print("\n" + json.dumps({**statuses, "policy": answers["header"][0].headers["content-security-policy"]}))


if __name__ == "__main__":
    main(sys.argv[1:])
