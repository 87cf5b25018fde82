"""No unit test talks to a server: the rule of this folder's conftest holds."""

from __future__ import annotations

import socket
import urllib.request

import pytest


def test_a_connection_is_refused_before_it_leaves_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with pytest.raises(AssertionError, match="a unit test connects to"):
            socket.create_connection(address)
        with pytest.raises(AssertionError, match="a unit test connects to"):
            urllib.request.urlopen(f"http://127.0.0.1:{address[1]}/", timeout=5)
