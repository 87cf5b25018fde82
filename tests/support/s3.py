"""An S3 server for tests: ministack on a free loopback port, in a process group of its own."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_PATIENCE = 30  # seconds until a starting server must answer


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """A running server; yields its endpoint, `http://127.0.0.1:<port>`.

    Args:
        folder: where its log and its temporary files go.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "S3_PERSIST": "0",
        "TMPDIR": str(folder),
        "SERVICES": "s3",
        "LOG_LEVEL": "WARNING",
    }
    with open(folder / "s3.log", "wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "ministack"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait(endpoint, process, folder / "s3.log")
        yield endpoint
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def make_bucket(endpoint: str) -> str:
    """A new bucket on a server; returns its name. AWS_* must be set, as in CREDENTIALS."""
    import boto3

    name = f"lake-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    return name


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(endpoint: str, process: subprocess.Popen, log: Path) -> None:
    # No proxy may stand between a test and its own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            opener.open(endpoint, timeout=2)
            return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the S3 server did not start:\n{log.read_text(errors='replace')[-2000:]}")


class S3Proxy:
    """A bad wire, or a bad store, in front of a good S3 server.

    Attributes:
        endpoint: its address.
        strip_condition: passes writes on without their `If-None-Match`, as a store does that ignores it.
        lose_answer: the answer to the first PUT of a path that ends so is lost, after the server has acted.
        lost: paths whose answer was lost.
    """

    def __init__(self, upstream: str, *, strip_condition: bool = False, lose_answer: str | None = None) -> None:
        self.upstream = urllib.parse.urlsplit(upstream)
        self.strip_condition = strip_condition
        self.lose_answer = lose_answer
        self.lost: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> S3Proxy:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the inner class's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                if proxy.strip_condition:
                    headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
                connection = http.client.HTTPConnection(proxy.upstream.hostname, proxy.upstream.port, timeout=30)
                try:
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    content = answer.read()
                finally:
                    connection.close()
                path = self.path.partition("?")[0]
                if self.command == "PUT" and proxy.lose_answer and path.endswith(proxy.lose_answer):
                    proxy.lose_answer = None
                    proxy.lost.append(path)
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        return Handler
