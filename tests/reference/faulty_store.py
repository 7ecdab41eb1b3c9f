"""A server before an object store that is late, says 503, or loses connections: a share of requests, by a seed."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from urllib.parse import urlsplit

KINDS = ("late", "503", "lost before", "lost in mid-write", "lost after", "lost in mid-read")
LATE = 0.3  # seconds


class Faults:
    """Which requests fail, and how.

    Attributes
    ----------
    done
        How many of each kind there were.
    """

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.chance, self.lock = share, Random(seed), threading.Lock()
        self.done: Counter[str] = Counter()
        self.last = ""

    def draw(self, method: str, path: str) -> str:
        """Fault of a request; "" for none. No request fails twice in a row: clients try again a few times."""
        with self.lock:
            key = f"{method} {path}"
            fails = self.chance.random() < self.share and key != self.last
            self.last = key if fails else ""
            kinds = [kind for kind in KINDS if method == "PUT" or "write" not in kind]
            kind = self.chance.choice(kinds) if fails else ""
            self.done[kind] += 1
            return kind


@contextmanager
def faulty_server(endpoint: str, share: float = 0.1, seed: int = 0) -> Iterator[tuple[str, Faults]]:
    """Run the server before an endpoint; gives its own, and what it did."""
    faults, behind = Faults(share, seed), urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def _lose(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _pass_on(self) -> None:
            kind, length = faults.draw(self.command, self.path), int(self.headers.get("Content-Length") or 0)
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            if kind == "lost in mid-write":
                self.rfile.read(length // 2)
                return self._lose()
            body = self.rfile.read(length)
            if kind == "lost before":
                return self._lose()
            if kind == "503":
                said = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
                self.send_response_only(503)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else said)
                return None
            if kind == "late":
                time.sleep(LATE)
            connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=60)
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")
            }
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if kind == "lost after":
                return self._lose()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", size or "0")
            self.end_headers()
            if kind == "lost in mid-read" and self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                return self._lose()
            if self.command != "HEAD":
                self.wfile.write(data)
            return None

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing of whoever has gone."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", faults
        finally:
            server.shutdown()
            thread.join()
