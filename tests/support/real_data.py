"""Real data beside the project, for the tests that need it."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def real(*parts: str) -> Path:
    """A file of the reference data; the test skips where it is absent."""
    path = SHARED.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"real data {'/'.join(parts)} is not beside the checkout")
    return path
