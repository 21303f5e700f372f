"""JetPack: which CUDA and TensorRT belong to a release of Jetson Linux (L4T)."""

from __future__ import annotations

from typing import NamedTuple


class JetPack(NamedTuple):
    """`tensorrt` and `cuda`: major and minor version; `python`: that of its Ubuntu."""

    version: str
    cuda: str
    tensorrt: str
    python: str


# Source: https://developer.nvidia.com/embedded/jetpack-archive, by way of jetson_stats' jetson_variables.py (releases);
# NVIDIA's release notes of JetPack 4.6.1, 5.0.2, 5.1.x, 6.0 to 6.2 for CUDA and TensorRT, as jetson_release prints them
# (https://github.com/rbonghi/jetson_stats/issues/715: L4T 36.4.0 with CUDA 12.6 and TensorRT 10.3).
RELEASES = {
    "32.6.1": JetPack("4.6", "10.2", "8.0", "3.6"),
    **{f"32.7.{n}": JetPack(f"4.6.{n}", "10.2", "8.2", "3.6") for n in range(1, 7)},
    "35.1.0": JetPack("5.0.2", "11.4", "8.4", "3.8"),
    "35.2.1": JetPack("5.1", "11.4", "8.5", "3.8"),
    "35.3.1": JetPack("5.1.1", "11.4", "8.5", "3.8"),
    "35.4.1": JetPack("5.1.2", "11.4", "8.5", "3.8"),
    "35.5.0": JetPack("5.1.3", "11.4", "8.5", "3.8"),
    "35.6.0": JetPack("5.1.4", "11.4", "8.5", "3.8"),
    "35.6.1": JetPack("5.1.5", "11.4", "8.5", "3.8"),
    "36.3.0": JetPack("6.0", "12.2", "8.6", "3.10"),
    "36.4.0": JetPack("6.1", "12.6", "10.3", "3.10"),
    "36.4.3": JetPack("6.2", "12.6", "10.3", "3.10"),
    "36.4.4": JetPack("6.2.1", "12.6", "10.3", "3.10"),
}


def jetpack_of(l4t: str) -> JetPack | None:
    """The JetPack of a release such as '36.4.3' or '35.1'; None when it is not in the table."""
    return RELEASES.get(l4t) or RELEASES.get(f"{l4t}.0")
