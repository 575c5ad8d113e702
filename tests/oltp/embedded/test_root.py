"""The embedded server when root starts it, which PostgreSQL itself refuses to run for."""

import os
import pwd
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from medalion.core.errors import StoreError
from oltp.server.embedded import EmbeddedPostgres
from oltp.server.place import binaries
from tests.support.server_processes import Client, answers, has_row, modes, postmasters, processes, write_row

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="only root changes user"), pytest.mark.server]


def test_root_gets_a_server_that_is_not_root_and_changes_no_folder_outside(place: Path) -> None:
    before = modes(place)
    with EmbeddedPostgres.start(place / "deep" / "data") as server:
        write_row(server)
        owner = (place / "deep" / "data" / "postgres").stat().st_uid
        assert owner != 0
        (postmaster,) = postmasters(place)
        assert Path(f"/proc/{postmaster}").stat().st_uid == owner
    assert modes(place) == before
    assert processes(place) == {}


def test_a_data_folder_in_roots_closed_home_points_to_where_the_server_can_reach(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    data_dir = home / "project" / "data"
    data_dir.mkdir(parents=True)
    before = modes(home, data_dir.parent)
    messages: list[str] = []
    with EmbeddedPostgres.start(data_dir, report=messages.append) as server:
        write_row(server)
    location = Path((data_dir / "postgres.location").read_text().strip())
    assert location.parent == place / "shared"
    assert stat.S_IMODE(location.stat().st_mode) == 0o700
    told = [message for message in messages if not message.startswith("waiting")]  # as it may on a busy machine
    assert [str(location) in message for message in told] == [True]
    with EmbeddedPostgres.start(data_dir) as server:
        assert has_row(server)
    assert modes(home, data_dir.parent) == before
    shutil.rmtree(data_dir)
    with EmbeddedPostgres.start(data_dir, report=messages.append) as server:
        assert not has_row(server), "a new folder of the same name is a new store"
    shutil.rmtree((data_dir / "postgres.location").read_text().strip())
    with pytest.raises(StoreError, match=r"restore that folder, or remove postgres\.location"):
        EmbeddedPostgres.start(data_dir)
    assert processes(place) == {}


def test_programs_in_roots_closed_home_are_copied_to_where_the_server_can_run_them(
    place: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = place / "home" / "site-packages"
    site.mkdir(parents=True)
    (place / "home").chmod(0o700)
    installed = binaries(None).parents[1]
    for part in (installed, installed.with_name(f"{installed.name}.libs")):
        shutil.copytree(part, site / part.name, ignore=shutil.ignore_patterns("pginstall"))
    for path in site.rglob("*"):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
    monkeypatch.syspath_prepend(site)
    with EmbeddedPostgres.start(data_dir) as server:
        assert answers(server)
        (running,) = processes(data_dir).values()
        assert running.startswith(f"{place}/shared/bin-")
    assert not list((place / "shared").glob("*.copy-*"))


def test_a_shared_place_that_others_may_write_is_refused(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    (place / "shared").mkdir()
    (place / "shared").chmod(0o777)
    with pytest.raises(StoreError, match="nobody else may write"):
        EmbeddedPostgres.start(home / "data")
    assert not (home / "data" / "postgres.location").exists()


def troubles(client: Client) -> list[str]:
    """What a client said until it left, but for being patient on a busy machine."""
    return [line for line in client.leave().splitlines() if line and not line.startswith("waiting for")]


def test_an_ordinary_user_has_his_own_server_which_root_may_share(place: Path, client: Callable[..., Client]) -> None:
    user = pwd.getpwnam("nobody")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, user.pw_uid, user.pw_gid)
    other = client(home / "data", user.pw_uid, user.pw_gid)
    url = other.url()
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
    with EmbeddedPostgres.start(home / "data") as server:
        assert server.url == url
        assert troubles(other) == []
    with EmbeddedPostgres.start(home / "data"):
        again = client(home / "data", user.pw_uid, user.pw_gid)
        assert again.url() == url
    assert troubles(again) == []
    assert {path.stat().st_uid for path in (home / "data").rglob("*")} == {user.pw_uid}
    assert processes(place) == {}


def test_a_folder_without_write_permission_is_refused_before_anything_is_made(
    place: Path, client: Callable[..., Client]
) -> None:
    (place / "data").mkdir()
    user = pwd.getpwnam("nobody")
    for given in (place / "data", place / "missing"):
        said = client(given, user.pw_uid, user.pw_gid).leave()
        assert f"InputError: {'user' if given.exists() else 'cannot make'}" in said
        assert str(given) in said
    assert [*place.rglob("*")] == [place / "data"]
