"""Free ports on the loopback interface, remembered so that addresses stay the same."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterable
from pathlib import Path

# Below Linux's ephemeral range (32768 and up): an outgoing connection never sits on one of them.
FIRST, LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(*, avoid: Iterable[int] = ()) -> int:
    """A free port, at random: two copies that start at once rarely meet."""
    avoid = set(avoid)
    for _ in range(1000):
        port = random.randint(FIRST, LAST)
        if port not in avoid and is_free(port):
            return port
    raise OSError(f"no free port between {FIRST} and {LAST}")


def answers(port: int) -> bool:
    """Whether somebody listens on this port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def listeners(port: int) -> set[int]:
    """Processes that listen on this port of 127.0.0.1, among those that we may look at."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                # state 0A is LISTEN; the local address ends in the port in hexadecimal
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return {pid for pid in _numbers() if inodes & _sockets(pid)} if inodes else set()


def _numbers() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(link.readlink()))
    return found
