"""Templates: filled into one HTML text, with everything in it escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevit.errors import MissingExtraError
from edgevit.units import format_mib, format_ms, format_percent, format_seconds

FILTERS: dict[str, Any] = {"ms": format_ms, "mib": format_mib, "percent": format_percent, "seconds": format_seconds}


def fill(template: str, context: dict[str, Any]) -> str:
    """The template of that name in this folder, with `context`; a name that the context lacks is an error.

    Raises MissingExtraError when jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "train") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template(template).render(context)


def safe(svg: str | None) -> Any:
    """Our own SVG, in which matplotlib has escaped every text, is not escaped a second time."""
    from markupsafe import Markup

    return None if svg is None else Markup(svg)
