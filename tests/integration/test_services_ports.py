"""Ports: chosen free, kept, and given up when somebody else has them."""

from __future__ import annotations

import os
import socket

import pytest

from tasks.services import lifecycle, ports
from tasks.services.home import Home, read_json, write_json
from tasks.settings import load_settings


@pytest.fixture
def foreign():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def platform(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()

    def make() -> lifecycle._Platform:
        settings = load_settings({"MILLRACE_HOME": str(home.root)})
        return lifecycle._Platform(settings, home, tmp_path / "dags", lambda done, total, text: None)

    return home, make


def test_a_port_with_a_listener_is_not_free_and_answers(foreign):
    assert not ports.is_free(foreign)
    assert ports.answers(foreign)
    free = ports.choose(avoid=range(ports.FIRST, ports.LAST - 500))
    assert free >= ports.LAST - 500 and ports.is_free(free) and not ports.answers(free)


def test_the_listener_of_a_port_is_known_by_its_process(foreign):
    assert ports.listeners(foreign) == {os.getpid()}
    assert ports.listeners(ports.choose()) == set()


def test_a_known_port_is_kept_while_it_is_free(platform):
    home, make = platform
    make()._choose("airflow", [])
    first = read_json(home.run / "ports.json")
    make()._choose("airflow", [])
    assert read_json(home.run / "ports.json") == first


def test_a_known_port_that_somebody_else_has_is_replaced(platform, foreign):
    home, make = platform
    write_json(home.run / "ports.json", {"airflow": foreign, "mlflow": ports.choose()})
    make()._choose("airflow", [])
    known = read_json(home.run / "ports.json")
    assert known["airflow"] != foreign and known["airflow"] != known["mlflow"]


def test_a_port_lost_between_choice_and_start_is_told_to_up(platform, foreign):
    _, make = platform
    one = make()
    one.ports["airflow"] = foreign
    with pytest.raises(lifecycle._PortTakenError, match="airflow"):
        one._check_port("airflow")
