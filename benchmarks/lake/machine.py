"""What the figures were measured on, without names of machines or places."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.lake.sizes import Sizes


def facts(sizes: Sizes, versions: Mapping[str, str]) -> dict[str, str]:
    """Rows of the table above the figures."""
    system = f"{platform.system()} on {platform.machine()}, {_processor()}"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{system}; {os.cpu_count()} cores, {_memory_gb():.0f} GB",
        "versions": ", ".join(
            f"{name} {version}" for name, version in {"Python": platform.python_version(), **versions}.items()
        ),
        "quotes": f"{sizes.quotes:,}: {sizes.quoted} symbols × {sizes.days} days × {sizes.each:,}",
        "bars": f"{sizes.bars:,}: {sizes.barred:,} symbols × {sizes.years} years × 250 sessions",
        "seed": "the number of the day or year; 7 for trades",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
