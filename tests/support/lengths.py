"""How long the tests with random examples go on: a part of all in `make test`, all of it in `make soak`."""

import math
import os

_PART = float(os.environ.get("MEDALION_EXAMPLES", "0.4"))


def examples(whole: int) -> int:
    """How many of `whole` examples are run now, at least one: 40 % unless MEDALION_EXAMPLES says another part."""
    return max(1, math.ceil(whole * _PART))
