"""Torch indexing: ONNX operators that choose among what there is, and how their operands are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

Attributes = dict[str, Any]
Operands = Sequence[Any]


def slices(operands: Operands, attributes: Attributes) -> torch.Tensor:
    result, starts, ends = operands[0], whole(operands[1]), whole(operands[2])
    axes = list(range(len(starts))) if at(operands, 3) is None else whole(operands[3])
    steps = [1] * len(starts) if at(operands, 4) is None else whole(operands[4])
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen = range(result.shape[axis])[start:end:step]
        if step > 0:
            index = [slice(None)] * result.dim()
            index[axis] = slice(chosen.start, chosen.stop, step)
            result = result[tuple(index)]
        else:
            result = result.index_select(axis, torch.tensor(list(chosen)))
    tensor: torch.Tensor = result
    return tensor


def gather(operands: Operands, attributes: Attributes) -> torch.Tensor:
    source, indices, axis = operands[0], operands[1], attributes.get("axis", 0)
    if isinstance(indices, torch.Tensor):
        return _looked_up(as_tensor(source), indices, axis % source.ndim)
    size = source.shape[axis]
    positions = [index % size for index in whole(indices)]
    if indices.ndim == 0:
        chosen: torch.Tensor = source.select(axis, positions[0])
        return chosen
    if positions == list(range(positions[0], positions[0] + len(positions))):
        picked = source.narrow(axis, positions[0], len(positions))
    else:
        picked = source.index_select(axis, torch.tensor(positions))
    shape = [*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :]]
    reshaped: torch.Tensor = picked.reshape(shape)
    return reshaped


def top_k(operands: Operands, attributes: Attributes) -> tuple[torch.Tensor, torch.Tensor]:
    """Of whole numbers by way of float, which LiteRT's kernel takes: they are positions, far below 2**24.

    A topk of which only the values are read would become a sort, for which LiteRT has no kernel.
    """
    source, axis = operands[0], attributes.get("axis", -1)
    chosen = torch.topk(source.float(), whole(operands[1])[0], axis, bool(attributes.get("largest", 1)))
    indices = chosen.indices
    values = _looked_up(source, indices, 0) if source.dim() == 1 else torch.gather(source, axis, indices)
    return values, indices


def at(operands: Operands, position: int) -> Any:
    return operands[position] if position < len(operands) else None


def whole(values: Any) -> list[int]:
    return [int(value) for value in values.reshape(-1)]


def as_tensor(value: Any) -> torch.Tensor:
    """A constant that is not float comes as an array."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value)


def _looked_up(source: torch.Tensor, indices: torch.Tensor, axis: int) -> torch.Tensor:
    """LiteRT has a kernel for rows of a float table; index_select would become seven operators around a GATHER_ND."""
    table = source.movedim(axis, 0)
    rows = F.embedding(indices, table.reshape(len(table), -1).float()).to(source.dtype)
    found = rows.reshape([*indices.shape, *table.shape[1:]])
    return found.movedim(list(range(indices.dim())), list(range(axis, axis + indices.dim())))
