"""`MEDALION_*` of the environment as one frozen object."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from medalion.core.datasets import dataset, downsampled
from medalion.core.environment import DATA_DIR
from medalion.core.errors import InputError, NotFoundError


class LakeRetention(BaseModel):
    """How long the lake keeps rows and superseded versions of a dataset, and which bars stay of dropped quotes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_days: int | None = Field(default=None, ge=0, le=36_500)
    versions_days: int | None = Field(default=None, ge=0, le=36_500)
    downsample: str | None = None

    @model_validator(mode="after")
    def _has_an_age(self) -> Self:
        if self.rows_days is None and (self.versions_days is None or self.downsample is not None):
            raise ValueError("give rows_days, versions_days or both; downsample goes with rows_days")
        return self


class Settings(BaseSettings):
    """Where the stores are and how much they may use; an argument of `open()` wins over the environment."""

    model_config = SettingsConfigDict(env_prefix="MEDALION_", frozen=True, extra="forbid")

    database_url: SecretStr | None = None
    data_dir: Path = Path(DATA_DIR)
    lake: str | None = None
    start_timeout: float = Field(default=600.0, gt=0, description="Seconds to wait for the embedded server's recovery.")
    lock_timeout: float = Field(default=60.0, gt=0, description="Seconds to wait for what another process holds.")
    mirror_interval: float = Field(default=2.0, gt=0, description="Seconds between two looks of the background mirror.")
    mirror_background: bool = Field(default=True, description="Whether open() starts the background mirror.")
    compact_interval: float = Field(default=60.0, gt=0, description="Seconds between two turns of compaction.")
    compact_background: bool = Field(default=True, description="Whether a store that mirrors itself compacts too.")
    cache_mb: int = Field(default=128, ge=0, description="MiB of decoded columns kept in memory; 0 keeps none.")
    batch_rows: int = Field(default=2_000_000, gt=0, description="Rows of one mirror batch, about.")
    slot_rows: int = Field(default=2_000_000, gt=0, description="Rows after which the next hot slot is taken.")
    log_retention_days: int = Field(default=90, ge=0, le=36_500, description="0 keeps logs for ever.")
    error_retention_days: int = Field(default=365, ge=0, le=36_500, description="Of errors that are over; 0 for ever.")
    metric_retention_days: int = Field(default=90, ge=0, le=36_500, description="0 keeps measurements for ever.")
    retention_interval: float = Field(default=3600.0, gt=0, description="Seconds between two looks for what is old.")
    anchor_interval: float = Field(default=3600.0, gt=0, description="Seconds between two anchors of the audit.")
    upkeep_background: bool = Field(default=True, description="Whether a store that mirrors itself looks after it.")
    upkeep_interval: float = Field(default=3600.0, gt=0, description="Seconds between two turns of the upkeep.")
    vacuum_days: int = Field(default=7, ge=0, le=30, description="Age of lake files that go; 0 keeps them for ever.")
    ledger_days: int = Field(default=30, ge=0, le=36_500, description="Age of ledger entries that are folded; 0 never.")
    key_days: int = Field(default=0, ge=0, le=36_500, description="The same of those with an idempotency key.")
    lake_retention: dict[str, LakeRetention] = Field(default_factory=dict, description="By dataset; else all stays.")
    slow_query_ms: float | None = Field(default=None, ge=0, description="Reads and queries from here on are recorded.")

    @field_validator("lake")
    @classmethod
    def _without_keys(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and "@" in value:
            raise ValueError("a URL with keys in it; a bucket's belong into AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY")
        return value

    @field_validator("lake_retention")
    @classmethod
    def _known(cls, value: dict[str, LakeRetention]) -> dict[str, LakeRetention]:
        for name, kept in value.items():
            try:
                declared = dataset(name)
            except NotFoundError as error:
                raise ValueError(str(error)) from None
            if kept.downsample is not None:
                downsampled(declared, kept.downsample)
        return value

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
    except SettingsError as error:
        raise InputError(f"a setting is wrong: {error}; expected JSON in its variable", expected="JSON") from None
