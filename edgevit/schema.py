"""Record: the frozen, strict value that every file of edgevit is read into."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

SCHEMA_VERSION = 1


def _readable(version: int) -> int:
    if version > SCHEMA_VERSION:
        raise ValueError(f"{version} is newer than {SCHEMA_VERSION}, the last that this edgevit reads")
    return version


SchemaVersion = Annotated[int, AfterValidator(_readable)]


class Record(BaseModel):
    """A frozen value; unknown keys, NaN and infinite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
