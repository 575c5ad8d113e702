"""Charts of frames; no store needed. Needs the extra `report`."""

from medalion.core.errors import MedalionError

try:
    import altair  # noqa: F401
except ModuleNotFoundError as error:
    raise MedalionError(
        f"charts need {error.name}, which is not installed; run: pip install 'medalion[report]'"
    ) from error
