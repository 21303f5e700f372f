"""Support: which operators and opsets each TensorRT version takes, as its parser's own table says."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import PositiveInt

from edgevit.device import Device
from edgevit.errors import DeviceError
from edgevit.machine.jetpack import RELEASES
from edgevit.schema import Record
from edgevit.yamlfile import read_yaml

SUPPORT = Path(__file__).with_name("support.yaml")


class Support(Record):
    """`opset`: the newest of ai.onnx. `operators`: of ai.onnx; of a file's entry, those that the one before lacks."""

    version: str
    opset: PositiveInt
    source: str
    note: str
    operators: frozenset[str]


class SupportFile(Record):
    versions: tuple[Support, ...]


@functools.cache
def load_support() -> dict[str, Support]:
    """By version, oldest first."""
    found: dict[str, Support] = {}
    operators: frozenset[str] = frozenset()
    for entry in read_yaml(SUPPORT, SupportFile).versions:
        operators |= entry.operators
        found[entry.version] = entry.model_copy(update={"operators": operators})
    return found


def versions_of(device: Device) -> tuple[Support, ...]:
    """Of the TensorRT versions that the device's JetPack may have, oldest first; a graph must suit all of them.

    Its profile names a JetPack, such as 'JetPack 6 (Ubuntu 22.04)', which stands for every release of it.
    Raises DeviceError for a device without JetPack, or with one whose TensorRT is not in the table.
    """
    words = device.os.name.split()
    if words[:1] != ["JetPack"] or len(words) < 2:
        raise DeviceError(f"Device '{device.name}' has {device.os.name}, and --runtime tensorrt is for JetPack.")
    wanted = words[1]
    shipped = {
        release.tensorrt
        for release in RELEASES.values()
        if release.version == wanted or release.version.startswith(f"{wanted}.")
    }
    found = tuple(support for version, support in load_support().items() if version in shipped)
    if not found:
        known = ", ".join(load_support())
        raise DeviceError(
            f"Device '{device.name}' has JetPack {wanted} with TensorRT {', '.join(sorted(shipped)) or 'unknown'}, and "
            f"edgevit makes graphs for TensorRT {known}. Take --runtime onnxruntime."
        )
    return found
