"""An account's figures and charts as one HTML page; takes values and knows no store. Needs the extra `report`."""

from medalion.core.errors import MedalionError

try:
    import jinja2  # noqa: F401
    import vl_convert  # noqa: F401
except ModuleNotFoundError as error:
    raise MedalionError(
        f"reports need {error.name}, which is not installed; run: pip install 'medalion[report]'"
    ) from error
