"""Facts: what a board said of itself (board/facts.py), validated. A board is not trusted: every size has a limit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from edgevit.benchreport import Machine, SensorReading
from edgevit.errors import BadFileError, InputError
from edgevit.machine.cpuinfo import parse_isa
from edgevit.schema import Record, SchemaVersion

MAX_BYTES = 4 << 20
MAX_LINE = 8192  # the flags of a large x86 core are 2,000
Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$")]
Text = Annotated[str, Field(max_length=1 << 20, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]  # with tabs, in lines
Version = Annotated[str, Field(max_length=40, pattern=r"^[0-9A-Za-z.+!_-]+$")]
Count = Annotated[int, Field(ge=0, le=1 << 40)]
Figure = Annotated[float, Field(ge=0, le=1e9)]


class BoardMachine(Machine):
    """The machine as reports have it, in words that a terminal shows and does not obey."""

    cpu: Word
    arch: Word
    cores: Annotated[int, Field(ge=0, le=4096)]
    os: Word
    python: Annotated[str, Field(max_length=40, pattern=r"^3\.[0-9]{1,2}(\.[0-9]{1,3}[0-9A-Za-z.+]*)?$")]


class BoardSensors(SensorReading):
    governor: Word | None = None
    throttle_flags: Annotated[tuple[Word, ...], Field(max_length=100)] = ()


class JetsonFacts(Record):
    l4t: Version | None = None
    power_mode: Word | None = None
    power_mode_id: Count | None = None
    is_clock_locked: bool | None = None
    jetpack: Version | None = None
    tensorrt: Version | None = None
    cuda: Version | None = None


class MemoryFacts(Record):
    """MiB."""

    total: Count = 0
    available: Count = 0
    swap_total: Count = 0
    swap_free: Count = 0


class CacheFacts(Record):
    l1d_kib: Count | None = None
    l2_kib: Count | None = None
    l3_kib: Count | None = None


class MicroBench(Record):
    """One core: a matrix product in 10^9 fp32 operations a second, a copy in GB a second, read and written bytes."""

    gemm_gflops: Figure | None = None
    copy_gb_s: Figure | None = None


class Facts(Record):
    """One board at one moment. `uname`: as `uname -m` spells the machine; `folder`: where a bundle would lie.

    cores: physical ones that may be used. max_mhz: of each processor, or empty. pythons: '3.11', found on the board.
    """

    schema_version: SchemaVersion
    kind: Literal["facts"]
    machine: BoardMachine
    uname: Word
    board: Word = ""
    cpuinfo: Text
    cores: Annotated[int, Field(ge=1, le=4096)]
    max_mhz: Annotated[tuple[Annotated[int, Field(ge=0, le=100_000)], ...], Field(max_length=4096)] = ()
    caches: CacheFacts = CacheFacts()
    os_id: Word = ""
    os_version: Word = ""
    kernel: Word = ""
    glibc: Annotated[str, Field(pattern=r"^([0-9]{1,2}\.[0-9]{1,3})?$")] = ""
    pythons: Annotated[tuple[Annotated[str, Field(pattern=r"^3\.[0-9]{1,2}$")], ...], Field(max_length=20)] = ()
    has_pip: bool = True
    has_venv: bool = True
    packages: Annotated[dict[Word, Version], Field(max_length=100)] = {}
    memory: MemoryFacts = MemoryFacts()
    folder: Word = "."
    disk_free_mib: Count | None = None
    sensor_kind: Literal["raspberry-pi", "jetson", "rapl", "none"]
    sensors: BoardSensors
    throttle_count: Count | None = None
    supply_v: Figure | None = None
    power_sensor: Word = ""
    power_missing: Word = ""
    jetson: JetsonFacts | None = None
    bench: MicroBench | None = None

    @field_validator("cpuinfo")
    @classmethod
    def _check_lines(cls, text: str) -> str:
        if max(map(len, text.split("\n"))) > MAX_LINE:
            raise ValueError(f"has a line of more than {MAX_LINE} characters")
        return text

    @property
    def isa(self) -> tuple[str, ...]:
        return parse_isa(self.cpuinfo)

    @property
    def python(self) -> str:
        """'3.11' of the Python that collected these facts."""
        return ".".join(self.machine.python.split(".")[:2])


def read_facts(path: Path) -> Facts:
    """The record in the file. Raises BadFileError when it cannot be read, InputError when it holds something else."""
    try:
        with path.open("rb") as file:
            return parse_facts(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error.strerror}.") from None


def parse_facts(text: str | bytes, source: str) -> Facts:
    """The record that facts.py printed. source: what it came from, for the message: a host or a file.

    Raises InputError when it is something else, or absurd.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{source}: its facts are larger than {MAX_BYTES >> 20} MiB; no board says that much.")
    try:
        return Facts.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = "".join(filter(str.isprintable, ".".join(map(str, first["loc"]))))[:80] or "the whole"
        raise InputError(
            f"{source}: its facts cannot be read: {key}: {first['msg']}. Collect them with this version of edgevit."
        ) from None
