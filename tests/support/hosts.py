"""Hosts as network namespaces: each has an address of its own, and can be cut off.

Needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN) and `ip` (Debian's package iproute2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NETWORK = "10.231.7"


@dataclass(frozen=True)
class Hosts:
    """Hosts on one network; a hub in a namespace of its own joins them.

    Attributes:
        count: how many there are, counted from 0.
        mark: what the namespaces' names begin with.
    """

    count: int
    mark: str

    def address(self, host: int) -> str:
        return f"{_NETWORK}.{host + 1}"

    def prefix(self, host: int) -> tuple[str, ...]:
        """Words before a command that is to run there."""
        return ("ip", "netns", "exec", f"{self.mark}{host}")

    def cut(self, host: int) -> None:
        """Take the cable out: packets go nowhere, and nobody is told."""
        _ip("-n", f"{self.mark}hub", "link", "set", f"v{host}", "down")


def why_no_hosts() -> str:
    """Why there can be none here; empty where they can be made."""
    if shutil.which("ip") is None:
        return "`ip` is not here: install the package iproute2"
    try:
        with make_hosts(1, mark=f"mrtry{os.getpid()}-"):
            return ""
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted here: {error.stderr.strip()}"


@contextmanager
def make_hosts(count: int, *, mark: str | None = None) -> Iterator[Hosts]:
    """Hosts for the length of a block."""
    hosts = Hosts(count, mark or f"mr{os.getpid()}-")
    hub = f"{hosts.mark}hub"
    names = [hub, *(f"{hosts.mark}{host}" for host in range(count))]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "link", "set", "br0", "up")
        for host, name in enumerate(names[1:]):
            _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"v{host}", "netns", hub)
            _ip("-n", hub, "link", "set", f"v{host}", "master", "br0")
            _ip("-n", hub, "link", "set", f"v{host}", "up")
            _ip("-n", name, "addr", "add", f"{hosts.address(host)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield hosts
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
