"""The embedded Airflow: its configuration file, its database, its four components.

The options that don't depend on the installation stand in `config/airflow/airflow.cfg`; paths,
ports, sizes and secrets are added here. The result is one file in the home that only its user can
read, so that no secret stands in a process's environment or arguments.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tasks.errors import ServiceError
from tasks.services import postgres, process
from tasks.services.home import Home, Secrets, read_json, write_json, write_private
from tasks.settings import REPOSITORY, Settings

ADMIN = "admin"
# In the order in which they are ended: what starts work first, what answers it last.
COMPONENTS = {
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "api-server": ("api-server",),
}
_OPTIONS = REPOSITORY / "config" / "airflow" / "airflow.cfg"
# Of the caller's environment these would change another Airflow's, Python's or MLflow's behaviour.
_FOREIGN = ("AIRFLOW", "_AIRFLOW", "PYTHON", "MLFLOW_", "PG", "VIRTUAL_ENV", "GUNICORN_", "UVICORN_", "FORWARDED_")
# One command's identity, not the platform's.
_RUN = {"MILLRACE_RUN_ID", "MILLRACE_ATTEMPT", "MILLRACE_ACTOR", process.MARK}


def config_file(home: Home) -> Path:
    """Airflow's configuration of this home."""
    return home.airflow / "airflow.cfg"


def record_file(home: Home, component: str) -> Path:
    """Where a component's process is recorded."""
    return home.run / f"airflow-{component}.json"


def log_file(home: Home, component: str) -> Path:
    """Output of a component."""
    return home.logs / f"airflow-{component}.log"


def configure(
    settings: Settings, home: Home, secrets: Secrets, *, port: int, database: str, dags: Path
) -> dict[str, str]:
    """Write the configuration, the password file and `env.sh`; returns the environment for Airflow.

    Args:
        settings: sizes.
        home: where to write.
        secrets: keys and the administrator's password.
        port: the API server's.
        database: SQLAlchemy URL.
        dags: folder of the DAG files.
    """
    home.airflow.mkdir(exist_ok=True)
    write_private(config_file(home), _render(settings, home, secrets, port=port, database=database, dags=dags))
    write_json(_password_file(home), {ADMIN: secrets.admin_password})
    env = environment(settings, home)
    # also what this process happens to have: who reads the file later may not
    own = {key: value for key, value in env.items() if os.environ.get(key) != value} | _own(home)
    lines = [f"export {key}={shlex.quote(value)}" for key, value in sorted(own.items())]
    usage = "# . this file, then: <repository>/.venv/bin/python -P -m airflow ...\n"
    write_private(home.airflow / "env.sh", usage + "\n".join(lines) + "\n")
    return env


def base_environment(settings: Settings) -> dict[str, str]:
    """The caller's environment without what belongs to other installations, and with Millrace's."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN) and key not in _RUN}
    direct = [part for part in env.get("no_proxy", env.get("NO_PROXY", "")).split(",") if part]
    env["no_proxy"] = env["NO_PROXY"] = ",".join(dict.fromkeys([*direct, "127.0.0.1", "localhost"]))
    return env | {
        "MILLRACE_HOME": str(settings.home),
        "MILLRACE_CONFIG": str(settings.config),
        "MILLRACE_ENVIRONMENT": settings.environment,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")]),
        "PYTHONUNBUFFERED": "1",
    }


def environment(settings: Settings, home: Home) -> dict[str, str]:
    """The environment for Airflow's processes and commands."""
    return base_environment(settings) | _own(home)


def _own(home: Home) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home.airflow),
        "AIRFLOW_CONFIG": str(config_file(home)),
        "DO_NOT_TRACK": "true",
        "SCARF_ANALYTICS": "false",
        "MALLOC_ARENA_MAX": "2",
    }


def migrate(home: Home, env: Mapping[str, str], database: str) -> bool:
    """Bring the database to this Airflow's schema, where that was not done already.

    Returns:
        Whether it was needed.

    Raises:
        ServiceError: the migration failed; the message ends with its output.
    """
    record = home.run / "migrated.json"
    schema = _schema(database)
    if schema is not None and read_json(record) == {"airflow": version("apache-airflow"), "schema": schema}:
        return False
    result = subprocess.run(
        [sys.executable, "-P", "-m", "airflow", "db", "migrate"],
        env=dict(env), cwd=home.airflow, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (home.logs / "airflow-migrate.log").write_text(result.stdout + result.stderr)
    if result.returncode:
        raise ServiceError(
            f"airflow db migrate failed: {(result.stderr or result.stdout).strip().splitlines()[-1:]}",
            hint=f"the whole output is in {home.logs / 'airflow-migrate.log'}",
        )
    write_json(record, {"airflow": version("apache-airflow"), "schema": _schema(database)})
    return True


def command(component: str) -> list[str]:
    """A component's command."""
    return [sys.executable, "-P", "-m", "airflow", *COMPONENTS[component]]


def digest(home: Home, env: Mapping[str, str], component: str) -> str:
    """What a component is started with: its command, its environment, the configuration."""
    stable = {key: value for key, value in env.items() if key.startswith(("MILLRACE_", "AIRFLOW", "AWS_"))}
    return process.digest_of(command(component), stable, config_file(home).read_text(encoding="utf-8"))


def start(home: Home, env: Mapping[str, str], component: str) -> process.Record:
    """Start one component; it answers some seconds later."""
    return process.start(
        record_file(home, component),
        command(component),
        log=log_file(home, component),
        environment=env,
        mark=home.digest,
        folder=home.airflow,
        digest=digest(home, env, component),
    )


def _schema(database: str) -> str | None:
    """The revision that the database's tables are at; None where there are none."""
    with postgres.connect(database) as session:
        session.execute("select to_regclass('alembic_version')")
        if session.fetchone()[0] is None:
            return None
        session.execute("select version_num from alembic_version")
        return ",".join(sorted(row[0] for row in session.fetchall()))


def _password_file(home: Home) -> Path:
    return home.airflow / "passwords.json"


def _render(settings: Settings, home: Home, secrets: Secrets, *, port: int, database: str, dags: Path) -> str:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with open(_OPTIONS, encoding="utf-8") as file:
        parser.read_file(file)
    logs = home.logs / "airflow"
    base = f"http://127.0.0.1:{port}"
    added = {
        "core": {
            "dags_folder": dags,
            "plugins_folder": REPOSITORY / "plugins",
            "parallelism": settings.airflow_parallelism,
            "fernet_key": secrets.fernet_key,
            "simple_auth_manager_passwords_file": _password_file(home),
            "execution_api_server_url": f"{base}/execution/",
        },
        "database": {"sql_alchemy_conn": database},
        "api": {"port": port, "base_url": base, "secret_key": secrets.api_secret},
        "api_auth": {"jwt_secret": secrets.jwt_secret, "jwt_issuer": f"millrace-{home.digest}"},
        "logging": {
            "base_log_folder": logs,
            "dag_processor_child_process_log_directory": logs / "dag_processor",
        },
        "dag_processor": {
            "dag_bundle_storage_path": home.airflow / "bundles",
            "dag_bundle_config_list": json.dumps(
                [
                    {
                        "name": "dags-folder",
                        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                        "kwargs": {"path": str(dags)},
                    }
                ]
            ),
        },
    }
    for section, options in added.items():
        if not parser.has_section(section):
            parser.add_section(section)
        for key, value in options.items():
            # Airflow interpolates: a per cent sign in a path or password stands for itself when doubled
            parser.set(section, key, str(value).replace("%", "%%"))
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
