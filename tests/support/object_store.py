"""An S3-compatible server on loopback in a process of its own, and in front of it a proxy that a test makes fail.

The server answers one request after the other, as one that knows conditional writes must where two name one object.
"""

import http.client
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

KEY, SECRET, TOKEN = "AKIALOOPBACK0000KEY", "between/us+two0000SECRET", "a-session0000TOKEN"
LACKING = [name for name in ("moto", "flask", "flask_cors", "obstore") if find_spec(name) is None]
"""Packages that a run of these tests needs and does not have."""

_ROOT = Path(__file__).parents[2]
_REFUSED = (
    f"<Error><Code>InvalidAccessKeyId</Code><Message>No such key</Message><AWSAccessKeyId>{KEY}</AWSAccessKeyId>"
    f"<StringToSign>{TOKEN}</StringToSign></Error>"
)
_BUSY = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
_PASSED_ON = ("content-type", "etag", "last-modified", "content-range", "accept-ranges")


class Kind(StrEnum):
    """What becomes of a request: refused, refused for its keys, cut off, never answered, done without an answer, not
    known to the server, or held until another such request is there too.
    """

    BUSY = "busy"
    REFUSED = "refused"
    CUT = "cut"
    HANG = "hang"
    LOST = "lost"
    UNKNOWN = "unknown"
    MEET = "meet"


@dataclass(frozen=True)
class Fault:
    """Requests of a method whose path matches fare so."""

    method: str
    path: str
    kind: Kind

    def meets(self, method: str, path: str) -> bool:
        return method == self.method and re.search(self.path, unquote(path)) is not None


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that was passed on, and what the answer weighed."""

    method: str
    path: str
    bytes: int


@dataclass
class ObjectStore:
    """The proxy; `faults` hold until they are taken out."""

    port: int
    server_port: int
    faults: list[Fault] = field(default_factory=list)
    asked: list[ReceivedRequest] = field(default_factory=list)
    overwrites: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    met: int = 0

    def environment(self) -> dict[str, str]:
        """What a user of the server sets."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
        }

    def bucket(self) -> str:
        """The URL of a lake in a new bucket."""
        name = f"bucket-{uuid4().hex}"
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port)
        connection.request("PUT", f"/{name}")
        assert connection.getresponse().status == 200
        connection.close()
        return f"s3://{name}/some/lake"

    @contextmanager
    def failing(self, method: str, path: str, kind: Kind) -> Iterator[None]:
        fault = Fault(method, path, kind)
        self.released.clear()
        self.meeting.reset()
        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)
            self.released.set()
            self.meeting.abort()


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.object_store"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "COV_"))}
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            with _proxy(int(line)) as store:
                yield store
        finally:
            process.kill()


@contextmanager
def _proxy(server_port: int) -> Iterator[ObjectStore]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        store = ObjectStore(server.server_address[1], server_port)
        server.store = store  # type: ignore[attr-defined]  # for its handlers
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield store
        finally:
            store.released.set()
            server.shutdown()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client may go before it has its answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet, or the client's kernel waits 40 ms for the second.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        store: ObjectStore = self.server.store  # type: ignore[attr-defined]  # set above
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = next((one for one in store.faults if one.meets(self.command, self.path)), None)
        if f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
            return self._answer(403, _REFUSED.encode())
        match fault.kind if fault else None:
            case Kind.BUSY:
                return self._answer(503, _BUSY.encode())
            case Kind.REFUSED:
                return self._answer(403, _REFUSED.encode())
            case Kind.UNKNOWN:
                return self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
            case Kind.CUT:
                return self._cut()
            case Kind.HANG:
                store.released.wait(60)
                return self._cut()
            case Kind.MEET:
                with suppress(threading.BrokenBarrierError):
                    store.meeting.wait(60)
                    store.met += 1
        answer, content = self._passed_on(store, body)
        store.asked.append(ReceivedRequest(self.command, self.path, len(content)))
        if fault is not None and fault.kind is Kind.LOST:
            return self._cut()
        return self._answer(answer.status, content, answer)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - so the base class calls them

    def _passed_on(self, store: ObjectStore, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        left_out = {"connection", "host"} | ({"if-none-match"} if store.overwrites else set())
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        connection = http.client.HTTPConnection("127.0.0.1", store.server_port)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, content: bytes, answer: http.client.HTTPResponse | None = None) -> None:
        self.send_response(status)
        for name, value in answer.getheaders() if answer else ():
            if name.lower() in _PASSED_ON or name.lower().startswith("x-amz"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if answer and self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: a test's own output is enough."""


def _serve() -> None:
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    print(server.server_port, flush=True)  # noqa: T201 - its parent reads it
    server.serve_forever()


if __name__ == "__main__":
    _serve()
