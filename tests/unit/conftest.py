"""Unit tests have their sockets closed."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True)
def _closed_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses every connection from Python, loopback's too: no unit test needs a server.

    Limitation: processes that a test starts, and libraries with sockets of their own (delta-rs, uv),
    are not held.
    """

    def refused(self: socket.socket, address: object) -> None:
        self.close()  # create_connection closes after an OSError only
        # no OSError: what retries or falls back on those must not hide it
        raise AssertionError(f"a unit test connects to {address}")

    for method in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, method, refused)
