"""The site of guides and reference builds without a warning, and its pages fetch nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import medalion.plot
import medalion.stats

ROOT = Path(__file__).resolve().parents[2]
FETCHED = re.compile(r'<(?:script|img|iframe|link rel="(?:stylesheet|preload|icon)")[^>]*?(?:src|href)="(?:https?:)?//')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pages."""
    for library in ("sphinx", "furo", "myst_parser", "mmdr"):
        pytest.importorskip(library, reason="the extra `docs` is not installed")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "docs", str(target)]
    # A proxy that nobody listens at: whatever would be fetched fails, and is seen.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **nowhere})
    assert built.returncode == 0, built.stderr
    return target


@pytest.mark.long
def test_pages_fetch_nothing_and_pictures_are_drawn(site: Path) -> None:
    pages = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    assert [name for name, page in pages.items() if FETCHED.search(page)] == []
    styles = [
        path for path in site.rglob("*.css") if re.search(r"@import|url\([\"']?(https?:)?//", path.read_text("utf-8"))
    ]
    assert styles == []
    for name in ("architecture.html", "storage.html"):
        assert "<svg" in pages[name].partition('class="picture"')[2]
        assert "language-mermaid" not in pages[name]


@pytest.mark.long
@pytest.mark.parametrize("module", [medalion.stats, medalion.plot], ids=lambda module: module.__name__)
def test_every_public_name_has_a_place_in_the_reference(site: Path, module: object) -> None:
    name = getattr(module, "__name__")  # noqa: B009 - of a module, which `object` does not have
    page = (site / "reference" / f"{name.split('.')[1]}.html").read_text("utf-8")
    missing = [member for member in getattr(module, "__all__") if f'id="{name}.{member}"' not in page]  # noqa: B009
    assert missing in ([], ["MAX_POINTS"])


@pytest.mark.long
@pytest.mark.parametrize("name", ["Store.read", "Store.trading", "Store.trades", "AsyncStore.latest"])
def test_the_reference_shows_what_a_store_offers(site: Path, name: str) -> None:
    assert f'id="medalion.{name}"' in (site / "reference" / "store.html").read_text("utf-8")
