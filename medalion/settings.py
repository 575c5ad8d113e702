"""`MEDALION_*` of the environment as one frozen object."""

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from medalion.errors import InputError


class Settings(BaseSettings):
    """Where the stores are and how much they may use; an argument of `open()` wins over the environment."""

    model_config = SettingsConfigDict(env_prefix="MEDALION_", frozen=True, extra="forbid")

    database_url: SecretStr | None = None
    data_dir: Path = Path("medalion-data")
    lake: str | None = None
    start_timeout: float = Field(default=600.0, gt=0, description="Seconds to wait for the embedded server's recovery.")
    mirror_interval: float = Field(default=2.0, gt=0, description="Seconds between two looks of the background mirror.")
    mirror_background: bool = Field(default=True, description="Whether open() starts the background mirror.")
    compact_interval: float = Field(default=60.0, gt=0, description="Seconds between two turns of compaction.")
    compact_background: bool = Field(default=True, description="Whether a store that mirrors itself compacts too.")
    batch_rows: int = Field(default=2_000_000, gt=0, description="Rows of one mirror batch, about.")
    slot_rows: int = Field(default=2_000_000, gt=0, description="Rows after which the next hot slot is taken.")
    log_retention_days: int = Field(default=90, ge=0, le=36_500, description="0 keeps logs for ever.")
    error_retention_days: int = Field(default=365, ge=0, le=36_500, description="Of errors that are over; 0 for ever.")
    metric_retention_days: int = Field(default=90, ge=0, le=36_500, description="0 keeps measurements for ever.")
    retention_interval: float = Field(default=3600.0, gt=0, description="Seconds between two looks for what is old.")
    anchor_interval: float = Field(default=3600.0, gt=0, description="Seconds between two anchors of the audit.")
    slow_query_ms: float | None = Field(default=None, ge=0, description="Reads and queries from here on are recorded.")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


def settings_of(
    url: str | None, lake: str | Path | None, data_dir: str | Path | None, given: dict[str, Any]
) -> Settings:
    """The arguments of `open()` over the environment.

    Raises:
        InputError: a setting is not known or has no sensible value; values are not repeated, one may be a secret.
    """
    named = {"database_url": url, "lake": None if lake is None else str(lake), "data_dir": data_dir}
    try:
        return Settings(**{name: value for name, value in (named | given).items() if value is not None})
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise InputError(f"a setting is wrong: {said}", expected=sorted(Settings.model_fields)) from None
