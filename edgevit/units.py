"""How quantities are written for people: one place, so that a figure reads the same everywhere."""

from __future__ import annotations

MIB = 1024 * 1024


def format_ms(latency_ms: float | None) -> str:
    """'12.3 ms' with three significant digits; 'not measured' for None."""
    if latency_ms is None:
        return "not measured"
    digits = 2 if latency_ms < 10 else 1 if latency_ms < 100 else 0
    return f"{latency_ms:.{digits}f} ms"


def format_mib(size_mib: float | None) -> str:
    """'6.25 MiB'; 'not measured' for None."""
    return "not measured" if size_mib is None else f"{size_mib:.{2 if size_mib < 10 else 1}f} MiB"


def format_percent(percent: float, ci95: tuple[float, float] | None = None) -> str:
    """'97.8 % [96.1, 98.7]': a percentage with its 95 % interval."""
    interval = f" [{ci95[0]:.1f}, {ci95[1]:.1f}]" if ci95 else ""
    return f"{percent:.1f} %{interval}"


def format_points(points: float, ci95: tuple[float, float] | None = None) -> str:
    """'-0.30 points [-0.80, +0.20]': a signed difference of two percentages."""
    interval = f" [{ci95[0]:+.2f}, {ci95[1]:+.2f}]" if ci95 else ""
    return f"{points + 0.0:+.2f} points{interval}"  # adding zero turns -0.0 into 0.0


def format_seconds(seconds: float) -> str:
    """'45 s', '3 min 05 s' or '1 h 02 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
