"""The tiny model of conftest as a .pte file, lowered once for all tests of a process: its exporter takes seconds."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from tiny_figures import BIAS, CLASSES, SIDE, WEIGHTS


class Tiny(torch.nn.Module):
    """The mean color times WEIGHTS plus BIAS. takes_bytes: (uint8 / 255 - 0.5) / 0.5 of (N, H, W, C) first."""

    def __init__(self, takes_bytes: bool = False) -> None:
        super().__init__()
        self._takes_bytes = takes_bytes
        self.linear = torch.nn.Linear(3, CLASSES)
        self.linear.weight.data = torch.from_numpy(WEIGHTS.T.copy())
        self.linear.bias.data = torch.from_numpy(BIAS.copy())

    def forward(self, pixels: torch.Tensor) -> Any:
        if self._takes_bytes:
            pixels = (pixels.permute(0, 3, 1, 2).to(torch.float32) / 255 - 0.5) / 0.5
        return self.linear(pixels.mean(dim=(2, 3)))


class Sum(torch.nn.Module):
    """Takes two pictures."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + right


def write_pte(path: Path, kind: str = "float32") -> Path:
    """kind: 'float32', 'uint8', 'picture' (no logits) or 'two' (two inputs)."""
    path.write_bytes(_content(kind))
    return path


@functools.cache
def _content(kind: str) -> bytes:
    picture = torch.zeros(1, 3, SIDE, SIDE)
    if kind == "two":
        return _lowered(Sum(), (picture, picture))
    if kind == "picture":
        return _lowered(torch.nn.ReLU(), (picture,))
    if kind == "uint8":
        return _lowered(Tiny(takes_bytes=True), (torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8),))
    return _lowered(Tiny(), (picture,))


def _lowered(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own imports
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(module.eval(), example)
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        return bytes(edge.to_executorch().buffer)
