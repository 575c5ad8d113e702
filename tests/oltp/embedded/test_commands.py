"""Commands start the server while they load what they need, and leave none behind."""

from pathlib import Path

import pytest

from medalion.cli.opening import Place
from medalion.core.errors import InputError, StoreError
from oltp.server.embedded import EmbeddedPostgres, StillStartingError
from tests.support.commands import refused, run
from tests.support.server_processes import answers, postmasters, processes


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDALION_DATABASE_URL", raising=False)


def test_a_command_starts_one_server_and_ends_with_it(copy: Path) -> None:
    made = run("--data-dir", str(copy), "db", "upgrade")
    assert (made.exit_code, processes(copy)) == (0, {})
    asked = run("--data-dir", str(copy), "read", "stock_bars")
    assert (asked.exit_code, asked.stderr, processes(copy)) == (0, "no rows\n", {})
    place = Place(data_dir=copy)
    with place.parts():
        assert len(postmasters(copy)) == 1
        with place.open() as store:
            assert list(store.assets.find()) == []
        assert len(postmasters(copy)) == 1
    assert processes(copy) == {}


def test_a_store_that_cannot_be_opened_leaves_no_server(copy: Path) -> None:
    with pytest.raises(InputError, match="ftp://"), Place(data_dir=copy, lake="ftp://somewhere").parts():
        pass
    assert processes(copy) == {}


def test_what_keeps_the_server_from_starting_is_the_command_s_error(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> None:
        raise StoreError("the server cannot start")

    monkeypatch.setattr(EmbeddedPostgres, "begin", start)
    assert refused(run("--data-dir", str(copy), "sql", "SELECT 1"), code=3) == "error: the server cannot start"


def test_a_share_that_waited_for_nothing_stops_the_server_on_its_way(copy: Path) -> None:
    with EmbeddedPostgres.begin(copy):
        pass
    assert processes(copy) == {}
    with EmbeddedPostgres.start(copy) as server:
        assert answers(server)


def test_a_share_taken_on_the_way_is_one_of_several(copy: Path) -> None:
    with EmbeddedPostgres.begin(copy):
        server = EmbeddedPostgres.start(copy)
    assert answers(server)
    server.stop()
    assert processes(copy) == {}


def test_a_server_that_takes_too_long_is_left_to_go_on(copy: Path) -> None:
    with pytest.raises(StillStartingError), EmbeddedPostgres.begin(copy):
        raise StillStartingError("it recovers")
    assert len(postmasters(copy)) == 1
    with EmbeddedPostgres.start(copy) as server:
        assert answers(server)
    assert processes(copy) == {}
