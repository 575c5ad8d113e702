"""A lake on an S3-compatible server.

Reads through DuckDB go by an Arrow dataset over Arrow's own S3 client: it fetches only the columns and row groups that
a query needs, takes part of a file at a time, and needs no extension of DuckDB. Commits are safe by conditional writes
(`If-None-Match`), which the server must know; opening proves it.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa

from medalion.core.errors import InputError, StoreUnavailableError
from olap.places.base import FileEntry, Options, said

if TYPE_CHECKING:
    import duckdb
    from obstore.store import S3Store
    from pyarrow.fs import S3FileSystem

SCHEME = "s3://"
# The four clients differ in how they quote names, so a lake's own need no quoting.
_URL = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][\w.-]{1,254})(?P<prefix>(/[\w.=+-]+)*)/?", re.ASCII)
_YES = ("1", "true", "yes", "on")
_ASKING = 16
"""Requests about single objects at a time."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How long a request may last, its connection may take, and how often it is made again after a failure."""

    request: timedelta
    connect: timedelta
    retries: int


AT_WORK = RequestLimits(request=timedelta(seconds=60), connect=timedelta(seconds=5), retries=3)
AT_OPEN = RequestLimits(request=timedelta(seconds=5), connect=timedelta(seconds=2), retries=1)
"""Opening a store says soon what is wrong."""


@dataclass(frozen=True)
class Access:
    """A server and the keys to it; never shown."""

    endpoint: str = field(repr=False)
    region: str = field(repr=False)
    keys: tuple[str, str, str | None] = field(repr=False)
    is_plain: bool = field(repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Access":
        """What the standard `AWS_*` variables say.

        Raises:
            InputError: keys or region are missing, or the endpoint is no URL; values are not repeated.
        """
        key, secret = (_needed(environment, name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        named = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
        if not named and not region:
            raise InputError("a lake on s3:// needs AWS_REGION, or AWS_ENDPOINT_URL for another server than Amazon's")
        endpoint = named or f"https://s3.{region}.amazonaws.com"
        is_plain = _checked(endpoint, is_plain_allowed=environment.get("AWS_ALLOW_HTTP", "").lower() in _YES)
        token = environment.get("AWS_SESSION_TOKEN") or None
        return cls(endpoint.rstrip("/"), region or "us-east-1", (key, secret, token), is_plain)

    def config(self) -> dict[str, str]:
        """Every setting is given, so that no other variable of the environment makes a commit unsafe."""
        key, secret, token = self.keys
        config = {
            "access_key_id": key,
            "secret_access_key": secret,
            "region": self.region,
            "endpoint_url": self.endpoint,
            "conditional_put": "etag",
            "virtual_hosted_style_request": "false",
        }
        return config | ({"session_token": token} if token else {})

    def options(self) -> dict[str, str]:
        """The same for Delta and Polars."""
        client = {
            "timeout": _seconds(AT_WORK.request),
            "connect_timeout": _seconds(AT_WORK.connect),
            "aws_allow_http": str(self.is_plain).lower(),
        }
        return {f"aws_{name}": value for name, value in self.config().items()} | client

    @cached_property
    def arrow(self) -> "S3FileSystem":
        """Arrow's client, with the limits for requests at work."""
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        key, secret, token = self.keys
        url = urlsplit(self.endpoint)
        return S3FileSystem(
            access_key=key,
            secret_key=secret,
            session_token=token,
            region=self.region,
            scheme="http" if self.is_plain else "https",
            endpoint_override=url.netloc + url.path,
            connect_timeout=AT_WORK.connect.total_seconds(),
            request_timeout=AT_WORK.request.total_seconds(),
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=AT_WORK.retries),
        )

    def store(self, bucket: str, patience: RequestLimits) -> "S3Store":
        """The client for writes that must not overwrite; raises InputError without the extra `s3`."""
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise InputError("a lake on s3:// needs a package more; run pip install 'medalion[s3]'") from error
        config: Any = self.config()
        return S3Store(
            bucket,
            config=config,
            client_options={
                "timeout": patience.request,
                "connect_timeout": patience.connect,
                "allow_http": self.is_plain,
            },
            retry_config={"max_retries": patience.retries, "retry_timeout": patience.request},
        )


@dataclass(frozen=True)
class Bucket:
    """Part of a bucket; an object is kept as soon as it is written."""

    bucket: str
    prefix: str
    access: Access = field(repr=False)

    @classmethod
    def of(cls, url: str, environment: Mapping[str, str] = os.environ) -> "Bucket":
        """The place that a URL names, `s3://bucket/prefix`.

        Raises:
            InputError: it is no such URL; it is not repeated, for it may hold keys.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise InputError(
                "the lake's URL is not s3://bucket/prefix with letters, digits, dots, dashes and underscores; "
                "keys belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                expected="s3://bucket/prefix",
            )
        return cls(match["bucket"], match["prefix"].strip("/"), Access.of(environment))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def _store(self) -> "S3Store":
        return self.access.store(self.bucket, AT_WORK)

    @property
    def readers(self) -> int:
        """How many objects are read at a time: most of a request is waiting."""
        return _ASKING

    @property
    def delta_options(self) -> Options:
        """What deltalake needs to reach it."""
        retries = {"max_retries": str(AT_WORK.retries), "retry_timeout": _seconds(AT_WORK.request)}
        return self.access.options() | retries | {"aws_s3_allow_unsafe_rename": "false"}

    @property
    def polars_options(self) -> Options:
        """What Polars needs to reach it."""
        return self.access.options() | {"max_retries": AT_WORK.retries, "retry_timeout": _seconds(AT_WORK.request)}

    def within(self, name: str) -> "Bucket":
        """The place below this one."""
        return Bucket(self.bucket, self._key(name), self.access)

    def open(self) -> None:
        """Prove that the bucket can be read and written, and that it refuses to overwrite where it is told to.

        Raises:
            InputError: there is no such bucket, the keys do not open it, or it does not know conditional writes.
            StoreUnavailableError: the server does not answer.
        """
        store, probe = self.access.store(self.bucket, AT_OPEN), self._key(f".writable-{token_hex(8)}")
        exists, _ = _errors()
        with self._opening():
            with suppress(exists):  # the answer to a first attempt was lost
                store.put(probe, b"1", mode="create")
            is_safe = False
            try:
                store.put(probe, b"2", mode="create")
            except exists:
                is_safe = True
            next(iter(store.list(self.prefix or None, chunk_size=1)), None)
            store.get(probe).bytes()
            store.delete(probe)
        if not is_safe:
            raise InputError(
                f"the server of {self} overwrites objects although it is told not to (If-None-Match), so that commits "
                "of two processes could both win; use one that knows conditional writes",
                given=str(self),
                expected="a server with conditional writes",
            )

    def make(self) -> None:
        """Nothing: a place in a bucket is there."""

    def is_empty(self) -> bool:
        """Whether no object lies there."""
        with self._asking("listed"):
            return not any(chunk for chunk in self._store.list(self.prefix or None, chunk_size=1))

    def write(self, name: str, content: pa.Buffer) -> None:
        """A new object; an existing one is never written to."""
        exists, _ = _errors()
        with self._asking("written to"):
            try:
                self._store.put(self._key(name), memoryview(content).cast("B"), mode="create", use_multipart=False)
            except exists:
                # A server that took it may have failed to say so, and was asked again.
                if self.read(name) != content.to_pybytes():
                    raise

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such object."""
        with self._asking("read"):
            return bytes(self._store.get(self._key(name)).bytes())

    def opened(self, name: str) -> pa.NativeFile:
        """An object to read parts of. Raises OSError where it cannot be read."""
        return self.access.arrow.open_input_file(f"{self.bucket}/{self._key(name)}")

    def stamp(self, name: str) -> tuple[int, ...]:
        """The same always: nobody asks the server whether an object that it never overwrites has changed."""
        return ()

    def missing(self, names: Iterable[str]) -> str | None:
        """One of the names that is no object, or None if all are there."""
        wanted = list(names)
        with ThreadPoolExecutor(_ASKING) as pool:
            are_there = pool.map(self._exists, wanted)
            return next((name for name, is_there in zip(wanted, are_there, strict=True) if not is_there), None)

    def _exists(self, name: str) -> bool:
        try:
            with self._asking("read"):
                self._store.head(self._key(name))
        except FileNotFoundError:
            return False
        return True

    def matching(self, pattern: str) -> Iterator[FileEntry]:
        """The objects that match; a star stands for part of a name."""
        folder = pattern.split("*")[0].rpartition("/")[0]
        parts = self._key(pattern).split("/")
        with self._asking("listed"):
            for chunk in self._store.list(self._key(folder).strip("/") or None):
                for found in chunk:
                    names = found["path"].split("/")
                    if len(names) == len(parts) and all(map(fnmatchcase, names, parts)):
                        yield FileEntry(self._name(found["path"]), found["size"], found["last_modified"])

    def remove(self, names: Iterable[str]) -> None:
        """Remove the objects; those that are not there are passed over."""
        if keys := [self._key(name) for name in names]:
            with self._asking("written to"):
                self._store.delete(keys)

    def keep_private(self, names: Iterable[str]) -> None:
        """Nothing: who may read an object is the bucket's matter."""

    def sync(self, names: Iterable[str]) -> None:
        """Nothing, and the names are not even looked at: an object is kept once it is written."""

    def at(self, name: str) -> str:
        """An object as Polars is told of it."""
        return f"{SCHEME}{self.bucket}/{self._key(name)}"

    def table(
        self, connection: "duckdb.DuckDBPyConnection", names: Sequence[str], schema: pa.Schema
    ) -> tuple[str, list[str]]:
        """The objects as a table of the connection, read through Arrow; DuckDB itself opens none."""
        from pyarrow import dataset

        files, form = self.access.arrow, dataset.ParquetFileFormat()
        parts = [form.make_fragment(f"{self.bucket}/{self._key(name)}", filesystem=files) for name in names]
        table = f"files_{token_hex(8)}"
        connection.register(table, dataset.FileSystemDataset(parts, schema, form, files))
        return table, []

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _name(self, key: str) -> str:
        return key.removeprefix(f"{self.prefix}/") if self.prefix else key

    @contextmanager
    def _asking(self, done: str) -> Iterator[None]:
        _, wrong = _errors()
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise StoreUnavailableError(f"{self} cannot be {done}: there is no such bucket any more") from None
            raise FileNotFoundError(errno.ENOENT, "there is no such object") from None
        except wrong as error:
            # Not chained: a server's answer may repeat the key that it was given.
            raise StoreUnavailableError(f"{self} cannot be {done}: {said(str(error))}") from None

    @contextmanager
    def _opening(self) -> Iterator[None]:
        _, wrong = _errors()
        try:
            yield
        except wrong as error:
            text = said(str(error))
            for pattern, problem in _PROBLEMS.items():
                if re.search(pattern, text):
                    raise InputError(f"{self} cannot be used: {text}; {problem}", given=str(self)) from None
            raise StoreUnavailableError(
                f"the server of {self} is not reachable: {text}; check AWS_ENDPOINT_URL and the network"
            ) from None


_PROBLEMS = {
    "NoSuchBucket|404": "there is no such bucket on that server; make it first",
    "40[013]": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must allow to list, read, write and delete there",
    "30[0-9]": "the bucket is in another region; set AWS_REGION to it",
    "501|405": "the server does not know conditional writes (If-None-Match), which make commits safe",
}


def _errors() -> tuple[type[Exception], tuple[type[Exception], ...]]:
    """What obstore raises for an object that exists, and for everything that goes wrong."""
    from obstore.exceptions import AlreadyExistsError, BaseError

    return AlreadyExistsError, (BaseError, OSError)


def _needed(environment: Mapping[str, str], name: str) -> str:
    if not (value := environment.get(name)):
        raise InputError(f"a lake on s3:// needs {name} in the environment; it is not set", expected=name)
    return value


def _checked(endpoint: str, *, is_plain_allowed: bool) -> bool:
    """Whether the endpoint is one without encryption."""
    expected = "https://host[:port]"
    try:
        url = urlsplit(endpoint)
        is_wrong = url.scheme not in ("http", "https") or not url.hostname or bool(url.query or url.fragment)
        is_wrong |= url.username is not None or url.password is not None or (url.port == 0)
    except ValueError:
        is_wrong = True
    if is_wrong:
        raise InputError("AWS_ENDPOINT_URL is no URL such as https://host:9000, without keys in it", expected=expected)
    if url.scheme == "http" and not is_plain_allowed:
        raise InputError("AWS_ENDPOINT_URL is http://; set AWS_ALLOW_HTTP=true where that is safe", expected=expected)
    return url.scheme == "http"


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():g}s"
