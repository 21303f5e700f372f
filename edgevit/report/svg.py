"""Drawings by matplotlib as inline SVG that takes its colors and fonts from the page around it."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgevit.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# matplotlib needs fixed colors, a page that is light or dark needs its own: these stand in for the page's.
INK = "#010203"
MUTED = "#010204"
GRID = "#010205"
GOOD = "#010206"
BAD = "#010207"
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")

_PAGE_COLORS = {
    INK: "currentColor",
    MUTED: "var(--muted, #777)",
    GRID: "var(--line, #999)",
    GOOD: "var(--good, #2a8a57)",
    BAD: "var(--bad, #c8402f)",
    **{color: f"var(--series-{i}, {color})" for i, color in enumerate(SERIES, start=1)},
}

_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and drawn in the page's font
    "svg.hashsalt": "edgevit",  # else ids are random, and two runs of the same metrics differ
    "text.parse_math": False,  # a class may be called "$5"
    "path.simplify": False,  # every raw sample is shown
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 12,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.alpha": 0.55,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.4,
}


def draw(name: str, title: str, width: int, height: int, paint: Callable[[Figure], None]) -> str:
    """An <svg> element of `width` x `height` user units that `paint` filled; the same input gives the same text.

    name: unique in the page, it goes before every id. title: what a screen reader says.
    Raises MissingExtraError when matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "train") from None

    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser draws the text, with fonts that know more letters than the one matplotlib measures with.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()  # a user's matplotlibrc does not change the page
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")  # SVG has 72 units an inch
        paint(figure)
        out = io.StringIO()
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=no_metadata)
    return _for_page(out.getvalue(), name, title, width, height)


def _for_page(svg: str, name: str, title: str, width: int, height: int) -> str:
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, count=1, flags=re.DOTALL)  # inline, it would style the whole page
    # Only inside tags: the text between them is a user's.
    body = re.sub(r"<[^>]*>", lambda tag: _adapt_tag(tag.group(), name), body)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="chart" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title" '
        f'stroke-linejoin="round" stroke-linecap="butt">'
    )
    return f'{opening}<title id="{name}-title">{html.escape(title)}</title>{body}'.strip()


def _adapt_tag(tag: str, name: str) -> str:
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    if tag.startswith("<path"):  # a hundredth of a unit is seen by nobody, and thousands of samples take a third less
        tag = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: inherit", tag)
    return re.sub(r"#0102\d\d", lambda color: _PAGE_COLORS.get(color.group(), color.group()), tag)
