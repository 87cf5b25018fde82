"""What Airflow and MLflow are started with."""

from __future__ import annotations

import configparser
import shlex
import subprocess

import pytest

from tasks.services import airflow_server, mlflow_server, process
from tasks.services.home import Home, Secrets
from tasks.settings import REPOSITORY, load_settings


@pytest.fixture
def configured(tmp_path):
    home = Home(tmp_path / "a home's 100%")
    home.prepare()
    settings = load_settings({"MILLRACE_HOME": str(home.root), "MILLRACE_AIRFLOW_PARALLELISM": "5"})
    secrets = Secrets.of(home)

    def configure(port: int = 23456, database: str = "postgresql+psycopg2://u:p%40@127.0.0.1:1/airflow"):
        return airflow_server.configure(settings, home, secrets, port=port, database=database, dags=REPOSITORY / "dags")

    return home, secrets, configure


def read(home) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()  # interpolates, as Airflow does
    parser.read(airflow_server.config_file(home))
    return parser


def test_the_configuration_holds_paths_ports_sizes_and_secrets(configured):
    home, secrets, configure = configured
    configure()
    options = read(home)
    assert options["core"]["parallelism"] == "5"
    assert options["core"]["executor"] == "LocalExecutor"
    assert options["core"]["simple_auth_manager_all_admins"] == "False"
    assert options["core"]["fernet_key"] == secrets.fernet_key
    assert options["core"]["simple_auth_manager_passwords_file"] == f"{home.root}/airflow/passwords.json"
    assert options["database"]["sql_alchemy_conn"] == "postgresql+psycopg2://u:p%40@127.0.0.1:1/airflow"
    assert options["api"]["base_url"] == "http://127.0.0.1:23456"
    assert options["api"]["host"] == "127.0.0.1"
    assert options["logging"]["base_log_folder"] == f"{home.root}/logs/airflow"


def test_files_with_secrets_are_read_by_their_user_only(configured):
    home, secrets, configure = configured
    configure()
    for name in ("airflow.cfg", "passwords.json", "env.sh"):
        assert (home.airflow / name).stat().st_mode & 0o777 == 0o600
    assert secrets.admin_password not in (home.airflow / "airflow.cfg").read_text()


def test_no_secret_stands_in_the_environment_or_in_a_command(configured):
    home, secrets, configure = configured
    env = configure()
    words = [*env.values(), *mlflow_server.command(home, 1)]
    for component in airflow_server.COMPONENTS:
        words += airflow_server.command(component)
    for secret in (secrets.admin_password, secrets.database_password, secrets.fernet_key, secrets.jwt_secret):
        assert not any(secret in word for word in words)


def test_the_callers_own_airflow_python_and_run_stay_outside(configured, monkeypatch):
    _, _, configure = configured
    for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "PYTHONDONTWRITEBYTECODE", "MLFLOW_TRACKING_URI", "PGHOST"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("MILLRACE_RUN_ID", "one-command")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("no_proxy", "example.org")
    env = configure()
    assert "elsewhere" not in env.values() and "one-command" not in env.values()
    assert env["AWS_ACCESS_KEY_ID"] == "key"
    assert env["no_proxy"] == env["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_a_shell_that_reads_env_sh_has_the_same_environment(configured):
    home, _, configure = configured
    env = configure()
    script = f'. {shlex.quote(str(home.airflow / "env.sh"))}; printf "%s" "$AIRFLOW_CONFIG|$PYTHONPATH"'
    told = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    assert told == f"{env['AIRFLOW_CONFIG']}|{env['PYTHONPATH']}"


def test_another_port_means_another_digest_and_the_same_one_does_not(configured):
    home, _, configure = configured
    env = configure()
    first = airflow_server.digest(home, env, "scheduler")
    assert airflow_server.digest(home, configure(), "scheduler") == first
    assert airflow_server.digest(home, configure(port=23457), "scheduler") != first
    assert airflow_server.digest(home, env, "triggerer") != first


def test_mlflow_runs_small_and_silent(configured):
    home, _, configure = configured
    configure()
    env = mlflow_server.environment({}, "postgresql://u:secret@host/mlflow")
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    command = mlflow_server.command(home, 5)
    assert command[command.index("--workers") + 1] == "1"
    assert command[command.index("--host") + 1] == "127.0.0.1"


@pytest.mark.parametrize("known", [False, True], ids=["told by nobody else", "told by the caller too"])
def test_airflow_and_all_that_it_starts_report_to_nobody(configured, known: bool, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("DO_NOT_TRACK", "true"), ("SCARF_ANALYTICS", "false")):
        monkeypatch.setenv(name, value) if known else monkeypatch.delenv(name, raising=False)
    home, _, configure = configured
    for env in (configure(), mlflow_server.environment({}, "postgresql://u:secret@host/mlflow")):
        assert env["DO_NOT_TRACK"] == "true"
    assert configure()["SCARF_ANALYTICS"] == "false"
    script = f'. {shlex.quote(str(home.airflow / "env.sh"))}; printf "%s" "$DO_NOT_TRACK|$SCARF_ANALYTICS"'
    told = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    assert told == "true|false"


def test_a_digest_tells_arguments_and_environment_apart():
    assert process.digest_of(["a", "b"], {}) != process.digest_of(["a b"], {})
    assert process.digest_of(["a"], {"b": "c"}) != process.digest_of(["a"], {"b": "d"})
