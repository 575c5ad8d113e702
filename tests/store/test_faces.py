"""The faces that are generated: that they are current, what they show at run time, and what they are made of."""

import inspect
import pydoc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from medalion.store.faces import LoopThread
from medalion.store.store import AsyncStore, Store
from oltp.repositories.unit_of_work import UnitOfWork
from tests.support import example_parts
from tests.support.example_parts import Inner, Outer
from tools.bodies import RefusedError
from tools.faces import BlockingModule, generated
from tools.modules import ROOT


def test_the_faces_are_those_of_the_bodies() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in generated().items() if path.read_text("utf-8") != text]
    assert stale == [], "run `make faces`"


def test_both_stores_have_the_same_parts() -> None:
    assert [name for name in {*dir(Store)} ^ {*dir(AsyncStore)} if not name.startswith("_")] == []
    assert set(UnitOfWork.repositories()) < set(dir(Store))


def test_a_name_that_is_not_there_is_answered_with_the_nearest(store: Store) -> None:
    misspelt: Any = store
    calls: dict[str, Callable[[], object]] = {
        "a store has no 'tradinng'; did you mean 'trading'": lambda: misspelt.tradinng,
        "a store has no 'barz'; did you mean 'bars'": lambda: misspelt.barz,
        "trading has no 'execute_markt_order'; did you mean 'execute_": lambda: misspelt.trading.execute_markt_order,
        "assets has no 'by_symbl'; did you mean 'by_symbol'": lambda: misspelt.assets.by_symbl,
        "a store has no 'zzzzz'$": lambda: misspelt.zzzzz,
    }
    for told, call in calls.items():
        with pytest.raises(AttributeError, match=told):
            call()


def test_an_error_inside_a_part_is_told_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("within")

    monkeypatch.setattr("medalion.store.services.Audit", broken)
    with pytest.raises(AttributeError, match="within"):
        _ = store.audit


def test_a_part_lists_its_methods_and_says_what_they_do(store: Store) -> None:
    assert {"deposit", "execute_market_order", "close_position"} <= set(dir(store.trading))
    assert [name for name in (*dir(store), *dir(store.trading), *dir(store.assets)) if name.startswith("_")] == []
    for part in (store.trading, store.assets, store.journal):
        told = pydoc.plain(pydoc.render_doc(part))
        for name in dir(part):
            assert f" {name}(self" in told
            assert (inspect.getdoc(getattr(part, name)) or "").split("\n")[0] in told
    assert repr(store.trading).startswith("<trading: advance, ")
    assert repr(store.assets).startswith("<assets: active, add, ")


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples count as the project's own."""
    for module in ("tools.bodies", "tools.sources"):
        monkeypatch.setattr(f"{module}.OURS", ("medalion", "oltp", "olap", "tests"))


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread()
    yield loop
    loop.stop()


@pytest.mark.usefixtures("ours")
def test_a_face_has_all_that_its_body_has(loop: LoopThread) -> None:
    written = BlockingModule()
    name = written.face(Outer, "outer")
    made: dict[str, Any] = {"__name__": "made"}
    exec(written.module.text(), made)  # noqa: S102 - what was just written
    body = Outer(Inner())
    face = made[name](body, lambda: loop.portal)
    assert face.given(1, 5, 6, kind="b", note="n") == (1, 5, (6,), "b", {"note": "n"})
    assert [each.doubled(4) for each in (face.inner, face.further, face.made(), face.itself.inner)] == [8] * 4
    assert (face.limit, face.plain(), face.plain(word="b"), face.entered) == (3, "a", "b", [])
    with face.held(7) as number:
        assert (number, face.entered) == (7, [7])
    assert face.entered == []
    given = inspect.signature(type(face).given)
    assert list(given.parameters) == list(inspect.signature(Outer.given).parameters)
    assert given.return_annotation == "tuple[object, ...]"
    assert inspect.getdoc(face.given) == inspect.getdoc(body.given)
    assert repr(face) == "<outer: entered, further, given, held, inner, itself, limit, made, plain>"
    assert repr(face.itself.inner) == "<outer.inner: doubled>"


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Yields", r"Yields\.items yields"),
        ("Mixes", r"Mixes\.work gives Inner \| None; give the part alone"),
        ("Leaks", r"Leaks\.later returns Awaitable"),
        ("Untyped", r"Untyped\.size has no type; annotate it"),
        ("Static", r"Static\.alone is a staticmethod"),
    ],
)
def test_what_no_face_can_have_is_refused(name: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        BlockingModule().face(getattr(example_parts, name), "example")
