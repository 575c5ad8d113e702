"""Charts and the self-contained HTML tearsheet; needs the extra `report`."""

from medalion.core.errors import MedalionError

try:
    import altair  # noqa: F401
    import jinja2  # noqa: F401
    import vl_convert  # noqa: F401
except ModuleNotFoundError as error:
    raise MedalionError(
        f"reports need {error.name}, which is not installed; run: pip install 'medalion[report]'"
    ) from error
