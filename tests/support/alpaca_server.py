"""A loopback server that speaks Alpaca's trading REST, whose fills, faults and silences a test decides."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest

from medalion.venues.alpaca import rest, venue
from medalion.venues.alpaca.venue import AlpacaVenue

KEY_ID, SECRET_KEY = "PKLOOPBACK", "between-us-two"
OVER = ("filled", "canceled", "expired", "rejected", "replaced")
_OPENING = datetime(2024, 3, 1, 14, 30, tzinfo=UTC)
_WEB_PAGE = b"<html><body><h1>Service Temporarily Unavailable</h1></body></html>"
_PRICES = ("limit_price", "stop_price", "trail_price", "trail_percent")
_REQUIRED = {
    "market": (),
    "limit": ("limit_price",),
    "stop": ("stop_price",),
    "stop_limit": ("limit_price", "stop_price"),
    "trailing_stop": (),
}

Row = dict[str, Any]
Params = dict[str, str]


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it


def as_json(body: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def error(status: int, code: int | None, message: str) -> Answer:
    return as_json({"message": message} if code is None else {"code": code, "message": message}, status)


WEB_PAGE = Answer(503, _WEB_PAGE, {"Content-Type": "text/html"})


class ReceivedRequest(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    params: Params
    body: Any


@dataclass
class Fault:
    """What becomes of the next requests to a path: another answer, or with None the connection is cut.

    If `carried_out`, the server does what it is asked first. `until` is waited for before the reply; `arrived` is set
    before that.
    """

    method: str
    path: str
    answer: Answer | None
    carried_out: bool = False
    times: int = 1
    until: threading.Event | None = None
    arrived: threading.Event = field(default_factory=threading.Event)


@dataclass
class AlpacaServer:
    """The broker's side of one account; a test fills, ends and replaces orders by client order id."""

    url: str = ""
    orders: list[Row] = field(default_factory=list)
    activities: list[Row] = field(default_factory=list)
    asked: list[ReceivedRequest] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    # Looks at an order that is being cancelled before it is; None is never.
    looks_to_cancel: int | None = 0
    # The filter of activities by order is new; a host that does not know it shows those of all.
    filters_by_order: bool = True
    released: threading.Event = field(default_factory=threading.Event)
    _moments: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def now(self) -> str:
        """Later whenever it is asked, in nanoseconds as the broker writes them."""
        self._moments += 1
        return f"{_OPENING + timedelta(milliseconds=self._moments):%Y-%m-%dT%H:%M:%S.%f}123Z"

    def fault(self, method: str, path: str, answer: Answer | None, **how: Any) -> Fault:
        self.faults.append(Fault(method, path, answer, **how))
        return self.faults[-1]

    def requests(self, method: str, path: str = "/v2/orders") -> list[ReceivedRequest]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def order(self, client_order_id: str) -> Row:
        return next(order for order in self.orders if order["client_order_id"] == client_order_id)

    def fill(self, client_order_id: str, qty: str, price: str, *, shown: bool = True, **other: Any) -> Row:
        """One execution; unless `shown`, no activity tells of it yet. `other` are fields of the activity."""
        with self._lock:
            order = self.order(client_order_id)
            moment, was = self.now(), Decimal(order["filled_qty"])
            total = was + Decimal(qty)
            value = was * Decimal(order["filled_avg_price"] or 0) + Decimal(qty) * Decimal(price)
            is_all = total == Decimal(order["qty"])
            if order["status"] not in OVER:
                order["status"] = "filled" if is_all else "partially_filled"
            order |= {"filled_qty": str(total), "filled_avg_price": str(value / total), "updated_at": moment}
            activity = {
                "activity_type": "FILL",
                "id": f"{20240301093000000 + self._moments}::{uuid4()}",
                "order_id": order["id"],
                "symbol": order["symbol"],
                "side": order["side"],
                "type": "fill" if is_all else "partial_fill",
                "qty": qty,
                "cum_qty": str(total),
                "leaves_qty": str(Decimal(order["qty"]) - total),
                "price": price,
                "order_status": order["status"],
                "transaction_time": moment,
                **other,
            }
            if shown:
                self.activities.append(activity)
            return activity

    def end(self, client_order_id: str, status: str) -> None:
        with self._lock:
            self.order(client_order_id).update(status=status, updated_at=self.now())

    def replace(self, client_order_id: str, **changes: Any) -> Row:
        """As the broker's web page does it: the order goes on as a new one with ids of its own."""
        with self._lock:
            old = self.order(client_order_id)
            fresh = {"id": str(uuid4()), "client_order_id": str(uuid4()), "replaces": old["id"], "status": "new"}
            unfilled = {"filled_qty": "0", "filled_avg_price": None, "submitted_at": self.now()}
            new = {**old, **fresh, **unfilled, **changes}
            old |= {"status": "replaced", "replaced_by": new["id"], "replaced_at": self.now()}
            self.orders.append(new)
            return new

    def answered(self, asked: ReceivedRequest) -> Answer:
        """What the broker answers to a request whose credentials are right."""
        with self._lock:
            match asked.method, asked.path.split("/")[2:]:
                case "POST", ["orders"]:
                    return self._submitted(asked.body)
                case "GET", ["orders"]:
                    return as_json(self._listed(asked.params))
                case "GET", ["orders:by_client_order_id"]:
                    return self._shown("client_order_id", asked.params.get("client_order_id"))
                case "GET", ["orders", order_id]:
                    return self._shown("id", order_id)
                case "DELETE", ["orders", order_id]:
                    return self._cancelled(order_id)
                case "GET", ["account", "activities", "FILL"]:
                    return as_json(self._executed(asked.params))
        return error(404, None, "endpoint not found.")

    def _submitted(self, body: Any) -> Answer:
        fault = self._fault_of(body)
        if fault is not None:
            return error(422, 40010001, fault)
        moment = self.now()
        symbol, kind = body["symbol"], body["type"]
        is_option = len(symbol) > 15
        order = {
            "id": str(uuid4()),
            "client_order_id": body["client_order_id"],
            **dict.fromkeys(("created_at", "updated_at", "submitted_at"), moment),
            **dict.fromkeys(("filled_at", "expired_at", "canceled_at", "failed_at", "replaced_at")),
            **dict.fromkeys(("replaced_by", "replaces", "notional", "filled_avg_price", "hwm", "legs")),
            "asset_class": "crypto" if "/" in symbol else "us_option" if is_option else "us_equity",
            "symbol": symbol,
            "qty": body["qty"],
            "filled_qty": "0",
            "order_class": "",
            "order_type": kind,
            "type": kind,
            "side": body["side"],
            "time_in_force": body["time_in_force"],
            **{name: body.get(name) for name in _PRICES},
            "status": "pending_new",
        }
        if kind == "trailing_stop":
            order |= {"hwm": "100", "stop_price": "95"}
        self.orders.append(order)
        return as_json(order)

    def _fault_of(self, body: Any) -> str | None:
        if any(order["client_order_id"] == body["client_order_id"] for order in self.orders):
            return "client_order_id must be unique"
        if not isinstance(body.get("qty"), str) or Decimal(body["qty"]) <= 0:
            return "qty is required"
        if (body["time_in_force"] == "day") is ("/" in body["symbol"]):
            return "invalid time_in_force for this asset class"
        lacking = [name for name in _REQUIRED[body["type"]] if name not in body]
        return f"{body['type']} orders require {lacking[0]}" if lacking else None

    def _shown(self, name: str, wanted: str | None) -> Answer:
        for order in self.orders:
            if order[name] == wanted:
                if order["status"] == "pending_cancel" and self.looks_to_cancel is not None:
                    self.looks_to_cancel -= 1
                    if self.looks_to_cancel < 0:
                        self.end(order["client_order_id"], "canceled")
                return as_json(order)
        return error(404, 40410000, "order not found")

    def _cancelled(self, order_id: str) -> Answer:
        order = next((order for order in self.orders if order["id"] == order_id), None)
        if order is None:
            return error(404, 40410000, "order not found")
        if order["status"] in (*OVER, "pending_cancel"):
            return error(422, 42210000, "order is not cancelable")
        order["status"] = "pending_cancel"
        return Answer(204)

    def _listed(self, params: Params) -> list[Row]:
        wanted = params.get("status", "open")
        found = [
            order
            for order in self.orders
            if wanted == "all" or (order["status"] in OVER) is (wanted == "closed")
            if _between(order["submitted_at"], params)
        ]
        found.sort(key=lambda order: order["submitted_at"], reverse=params.get("direction", "desc") == "desc")
        return found[: int(params.get("limit", 50))]

    def _executed(self, params: Params) -> list[Row]:
        found = [
            activity
            for activity in self.activities
            if not self.filters_by_order or params.get("order_id") in (None, activity["order_id"])
            if _between(activity["transaction_time"], params)
        ]
        found.sort(key=lambda activity: activity["id"], reverse=params.get("direction", "desc") == "desc")
        if (token := params.get("page_token")) is not None:
            ids = [activity["id"] for activity in found]
            found = found[ids.index(token) + 1 :]
        return found[: int(params.get("page_size", 100))]


def _between(moment: str, params: Params) -> bool:
    """Whether it is after `after` and before `until`, both exclusive."""
    after, until = (params.get(name) for name in ("after", "until"))
    # Stamps of one form sort as texts do, to the nanosecond, which datetimes would cut off.
    return (after is None or after.removesuffix("Z") < moment) and (until is None or moment < until)


def _handler(server: AlpacaServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are written one after the other, and the second would wait for the first to be acknowledged.
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            url = urlsplit(self.path)
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = ReceivedRequest(
                self.command, url.path, dict(parse_qsl(url.query)), json.loads(text) if text else None
            )
            server.asked.append(asked)
            self._reply(self._decided(asked))

        def _decided(self, asked: ReceivedRequest) -> Answer | None:
            given = [self.headers.get(name) for name in ("APCA-API-KEY-ID", "APCA-API-SECRET-KEY")]
            if None in given:
                return error(401, 40110000, "request is not authorized")
            if given != [KEY_ID, SECRET_KEY]:
                return error(403, None, "forbidden.")
            for fault in server.faults:
                if (fault.method, fault.path) == (asked.method, asked.path) and fault.times:
                    fault.times -= 1
                    if fault.carried_out:
                        server.answered(asked)
                    fault.arrived.set()
                    if fault.until is not None:
                        fault.until.wait()
                    return fault.answer
            return server.answered(asked)

        def _reply(self, answer: Answer | None) -> None:
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            try:
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                # Whoever asked has given up.
                self.close_connection = True

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - named by http.server

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def alpaca_server() -> Iterator[AlpacaServer]:
    """A server of its own, without orders; at the end every reply that is held back is let go."""
    server = AlpacaServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    serving = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        serving.join()
        http.server_close()


def connected(server: AlpacaServer, **options: Any) -> AlpacaVenue:
    """A venue at the server, with the right credentials unless others are given."""
    return AlpacaVenue(**{"key_id": KEY_ID, "secret_key": SECRET_KEY, "url": server.url, **options})


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other without the pauses that leave a broker time."""
    for module in (venue, rest):
        monkeypatch.setattr(module, "PAUSES", (0.0,) * len(rest.PAUSES))
