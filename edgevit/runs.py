"""Run directory: the names of what is in it, and its metrics read back."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from edgevit.errors import InputError
from edgevit.results import RunMetrics

METRICS = "metrics.json"
PAGE = "report.html"
BUNDLE = "bundle"


def read_metrics(run: Path) -> RunMetrics:
    """metrics.json of a run directory. Raises InputError when it is none, or was written by another edgevit."""
    path = run / METRICS if run.is_dir() else run
    try:
        return RunMetrics.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{run}: is no run directory: {METRICS} cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        problem = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {where}: {problem}. It was written by another edgevit, or changed.") from None
