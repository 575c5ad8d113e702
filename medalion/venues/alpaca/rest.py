"""Alpaca's trading REST: requests off the event loop, limits waited out, and every reply sorted by what it proves."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from anyio import to_thread

from medalion.core.errors import InputError, MedalionError, VenueError
from medalion.venues.alpaca.wire import UnclearError

try:
    from alpaca.common.enums import BaseURL
    from alpaca.common.rest import RESTClient
except ModuleNotFoundError as error:
    raise MedalionError(
        f"orders at Alpaca need {error.name}, which is not installed; run: pip install 'medalion[alpaca]'"
    ) from error

if TYPE_CHECKING:
    from requests import Response

KEY_ID, SECRET_KEY = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"
PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds between one look and the next."""
_LONGEST_WAIT = 65.0  # limits are per minute
_OK, _REDIRECTED = 200, 300
_NO_CONTENT, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _LIMITED = 204, 401, 403, 404, 429
_BAD_REQUEST, _UNPROCESSABLE, _SERVER_ERROR = 400, 422, 500


@dataclass(frozen=True, slots=True)
class Reply:
    """What Alpaca answered: the JSON, or why it refuses; `status` is that of HTTP."""

    status: int
    body: Any = None
    refusal: str | None = None


class _Client(RESTClient):
    """The SDK's client with a timeout, and without its own retries: replies come as they are, errors too.

    Left alone it waits for ever, repeats what it asked after 429 and 504, reads numbers as floats, and its models know
    orders with floats only, and fail on words that are newer than they are.
    """

    def __init__(self, key_id: str, secret_key: str, *, url: str | BaseURL, timeout: float) -> None:
        super().__init__(url, key_id, secret_key, raw_data=True)
        self._timeout = timeout

    def _one_request(self, method: str, url: str, opts: dict[str, Any], retry: int) -> Any:
        return self._session.request(method, url, timeout=self._timeout, **opts)


class AlpacaRest:
    """Asks one account of the broker; credentials that are not given come from the environment.

    Raises:
        InputError: credentials are missing or malformed, or `url` or `timeout` is.
    """

    def __init__(
        self, *, key_id: str | None, secret_key: str | None, paper: bool, url: str | None, timeout: float
    ) -> None:
        if not 0 < timeout < math.inf:
            raise InputError(f"timeout {timeout} is no time to wait; give seconds, such as 10", given=timeout)
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise InputError(f"url {url!r} is not that of a server; give one such as 'https://host'", given=url)
        host = BaseURL.TRADING_PAPER if paper else BaseURL.TRADING_LIVE
        self._client = _Client(
            _credential(KEY_ID, key_id),
            _credential(SECRET_KEY, secret_key),
            url=host if url is None else url.rstrip("/"),
            timeout=timeout,
        )

    async def ask(self, method: str, path: str, asked: dict[str, Any] | None = None, *, repeats: bool = True) -> Reply:
        """The reply; if none can be read and asking twice does no harm, asked again a few times.

        Raises:
            UnclearError: no reply can be read.
            VenueError: the credentials are not accepted, or too much was asked: nothing was done.
        """
        for pause in PAUSES[:-1] if repeats else ():
            try:
                return _sorted(await self._unlimited(method, path, asked), method, path)
            except UnclearError:
                await anyio.sleep(pause)
        return _sorted(await self._unlimited(method, path, asked), method, path)

    async def find(self, path: str, asked: dict[str, Any] | None = None) -> Any | None:
        """What is read there; None if there is nothing.

        Raises:
            VenueError: no reply can be read, or Alpaca refuses to give one.
        """
        reply = await self.ask("GET", path, asked)
        if reply.refusal is not None and reply.status != _NOT_FOUND:
            raise VenueError(f"Alpaca refuses to show {path}: {reply.refusal}")
        return reply.body

    def close(self) -> None:
        """Close the connections that are kept open for the next request."""
        self._client._session.close()

    async def _unlimited(self, method: str, path: str, asked: dict[str, Any] | None) -> "Response":
        """The response once the limit of requests has passed."""
        waited = 0.0
        for attempt, pause in enumerate(PAUSES, 1):
            response = await self._send(method, path, asked)
            if response.status_code != _LIMITED:
                return response
            wait = _told(response, pause)
            waited += wait
            if waited > _LONGEST_WAIT or attempt == len(PAUSES):
                break
            await anyio.sleep(wait)
        raise VenueError(
            f"Alpaca limits how often it is asked, and {method} {path} was not answered within the limit; "
            f"ask less often, and try again in {math.ceil(wait)} s"
        )

    async def _send(self, method: str, path: str, asked: dict[str, Any] | None) -> "Response":
        client = self._client
        sends: dict[str, Callable[..., Any]] = {"GET": client.get, "POST": client.post, "DELETE": client.delete}
        try:
            response: Response = await to_thread.run_sync(sends[method], path, asked)
        # The errors of requests are those of the operating system.
        except OSError as error:
            raise UnclearError(
                f"Alpaca did not answer {method} {path}: {type(error).__name__}; whether it heard is not known"
            ) from error
        return response


def _credential(name: str, given: str | None) -> str:
    value = os.environ.get(name, "") if given is None else given
    if not value:
        raise InputError(f"{name} is missing; set it in the environment to the account's key from Alpaca's dashboard")
    # Sent as it is, it would be refused by a message that quotes it.
    if not value.isascii() or not value.isprintable() or " " in value:
        raise InputError(f"{name} holds characters that no key has, such as a line end; copy the key again")
    return value


def _told(response: "Response", unless: float) -> float:
    """Seconds to wait, as the response tells; by the broker's clock where it shows it."""
    try:
        if (after := response.headers.get("Retry-After")) is not None:
            return max(int(after), 0)
        if (reset := response.headers.get("X-RateLimit-Reset")) is not None:
            shown = response.headers.get("Date")
            moment = time.time() if shown is None else parsedate_to_datetime(shown).timestamp()
            return max(int(reset) - moment, 0)
    except ValueError:
        pass
    return unless


def _sorted(response: "Response", method: str, path: str) -> Reply:
    """The reply, where the response proves what happened."""
    status = response.status_code
    if status == _NO_CONTENT:
        return Reply(status)
    try:
        body = json.loads(response.content, parse_float=Decimal)
    except ValueError:
        body = None
    if _OK <= status < _REDIRECTED and body is not None:
        return Reply(status, body)
    said = body if isinstance(body, dict) else {}
    message, has_code = said.get("message"), isinstance(said.get("code"), int)
    if status == _UNAUTHORIZED or (status == _FORBIDDEN and said and not has_code):
        raise VenueError(
            f"Alpaca does not accept the credentials for {method} {path} ({status} {message}); check {KEY_ID} and "
            f"{SECRET_KEY}, and that keys of a paper account go with paper=True and keys of a live one with paper=False"
        )
    # What a gateway answers has no code, and proves nothing about an order.
    is_verdict = has_code or status in (_BAD_REQUEST, _UNPROCESSABLE)
    if _BAD_REQUEST <= status < _SERVER_ERROR and isinstance(message, str) and is_verdict:
        return Reply(status, refusal=message)
    what = "nothing readable" if body is None else "nothing expected"
    raise UnclearError(
        f"Alpaca answered {method} {path} with {what} ({status} {response.reason}); whether it was done is not known"
    )
