"""A bad wire in front of a good HTTP server: a share of the requests ends in a fault, which is counted."""

from __future__ import annotations

import http.client
import os
import random
import socket
import struct
import threading
import urllib.parse
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER_500, ANSWER_503 = "500", "503"
RESET_BEFORE, RESET_AFTER, STALL = "reset before", "reset after", "stall"
KINDS = (ANSWER_500, ANSWER_503, RESET_BEFORE, RESET_AFTER, STALL)
_LINGER = struct.pack("ii", 1, 0)  # on, for 0 seconds: closing sends a reset
_HOP = ("connection", "transfer-encoding", "content-length", "date", "server", "expect", "keep-alive")


class FaultyProxy:
    """Passes requests on, or not, as a seed says.

    Which request gets which fault depends on the order in which they come: with clients that use threads, a seed
    repeats the shares and not each single fault.

    Attributes:
        endpoint: its address.
        share: of the requests that get a fault, from now on.
        requests: how many came.
        injected: how many faults, by kind and method.
        lost_creations: PUTs with `If-None-Match: *` that were done and whose answer was lost.
    """

    def __init__(self, upstream: str, *, seed: int, share: float, stall: float) -> None:
        """A proxy that is not running yet.

        Args:
            upstream: endpoint of the server.
            seed: of the faults.
            share: of the requests that get one, 0 to 1; all kinds as often.
            stall: seconds that a stalled request is held before its connection ends; more than clients wait.
        """
        self.requests = 0
        self.injected: Counter[tuple[str, str]] = Counter()
        self.lost_creations = 0
        self._upstream = urllib.parse.urlsplit(upstream)
        self._draw = random.Random(seed)
        self.share, self._stall = share, stall
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def kinds(self) -> dict[str, int]:
        """How many faults of each kind."""
        return {kind: sum(count for (one, _), count in self.injected.items() if one == kind) for kind in KINDS}

    def decide(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        """The fault that a request gets, or None."""
        with self._lock:
            self.requests += 1
            if self._draw.random() >= self.share:
                return None
            kind = self._draw.choice(KINDS)
            self.injected[kind, method] += 1
            if kind == RESET_AFTER and method == "PUT" and headers.get("If-None-Match") == "*":
                self.lost_creations += 1
            return kind

    def _forward(self, method: str, path: str, body: bytes, headers: Mapping[str, str]):
        connection = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=30)
        try:
            passed = {name: value for name, value in headers.items() if name.lower() not in ("connection", "expect")}
            connection.request(method, path, body, passed)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the inner class's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = proxy.decide(self.command, self.path, self.headers)
                if kind in (ANSWER_500, ANSWER_503):
                    self._answer(int(kind), "", {}, b"")
                elif kind == STALL:
                    proxy._ending.wait(proxy._stall)
                    self._reset()
                elif kind == RESET_BEFORE:
                    self._reset()
                else:
                    answer, content = proxy._forward(self.command, self.path, body, self.headers)
                    if kind == RESET_AFTER:
                        self._reset()
                    else:
                        self._answer(answer.status, answer.reason, dict(answer.getheaders()), content)

            def _answer(self, status: int, reason: str, headers: Mapping[str, str], content: bytes) -> None:
                self.send_response(status, reason or None)
                for name, value in headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def _reset(self) -> None:
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
                os.close(self.connection.detach())

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _pass_on  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class DyingProxy(FaultyProxy):
    """A server that is killed when it has done the first request for a path, and does not come back.

    Attributes:
        died: whether it was asked.
    """

    def __init__(self, upstream: str, path: str) -> None:
        super().__init__(upstream, seed=0, share=0, stall=0)
        self.died = False
        self._path = path

    def decide(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        if self.died:
            return RESET_BEFORE
        self.died = self._path in path
        return RESET_AFTER if self.died else None
