"""`MEDALION_*` of the environment as one frozen object."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the stores are and how much they may use; an argument of `open()` wins over the environment."""

    model_config = SettingsConfigDict(env_prefix="MEDALION_", frozen=True, extra="forbid")

    database_url: SecretStr | None = None
    data_dir: Path = Path("medalion-data")
    lake: str | None = None
    start_timeout: float = Field(default=600.0, gt=0, description="Seconds to wait for the embedded server's recovery.")
    mirror_interval: float = Field(default=2.0, gt=0, description="Seconds between two looks of the background mirror.")
    mirror_background: bool = Field(default=True, description="Whether open() starts the background mirror.")
    batch_rows: int = Field(default=2_000_000, gt=0, description="Rows of one mirror batch, about.")
    slot_rows: int = Field(default=2_000_000, gt=0, description="Rows after which the next hot slot is taken.")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()
