"""A small ViT trained on digits, and outlier channels planted in it: the same function, but static INT8 collapses."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from sklearn.datasets import load_digits
from tiny_models import CLASSES, MEAN_POOL_VIT, run_graph

from edgevit.export.onnx import export_onnx
from edgevit.models.create import create_model
from edgevit.models.fusion import fuse_for_inference

TRAINED_ON = 1400  # of 1,797 pictures; the others judge
STEPS = 200
LEARNING_RATE = 5e-3
WEIGHTED = (torch.nn.Linear, torch.nn.Conv2d)


@functools.cache
def pictures() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(1797, 1, 32, 32) with values about 0, and their labels: 8 x 8 digits, each pixel four times as wide and high."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    pixels = np.kron(found.images[order, None].astype(np.float32), np.ones((1, 1, 4, 4), np.float32))
    return (pixels - 4.9) / 6.0, found.target[order].astype(np.int64)


@functools.cache
def _trained_bytes() -> bytes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(MEAN_POOL_VIT, CLASSES).train()
        for parameter in (module.weight for module in model.modules() if isinstance(module, WEIGHTED)):
            torch.nn.init.xavier_uniform_(parameter)  # timm's small weights need ten times as many steps
        torch.nn.init.normal_(model.pos_embed, std=0.5)
        pixels, labels = (torch.from_numpy(array[:TRAINED_ON]) for array in pictures())
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
        for _ in range(STEPS):
            batch = torch.randint(TRAINED_ON, (64,))
            loss = torch.nn.functional.cross_entropy(model(pixels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    fused = fuse_for_inference(model.eval()).requires_grad_(False)
    data: bytes = export_onnx(fused, (1, 1, 32, 32), dynamic_batch=True).SerializeToString()
    return data


def trained_vit() -> onnx.ModelProto:
    """Two blocks of 32 channels; takes any number of pictures at once."""
    return onnx.ModelProto.FromString(_trained_bytes())


def accuracy(model: onnx.ModelProto) -> float:
    """Percent of the pictures that were not trained on."""
    pixels, labels = pictures()
    logits = run_graph(model, pixels[TRAINED_ON:])
    return 100.0 * float((logits.argmax(axis=1) == labels[TRAINED_ON:]).mean())


def calibration_pictures(count: int = 32) -> list[NDArray[np.float32]]:
    return list(pictures()[0][:count, None])


def plant_outliers(model: onnx.ModelProto, channels: Sequence[int], factor: float) -> onnx.ModelProto:
    """The same function with these `channels` of every norm's output `factor` times as large.

    Each LayerNormalization whose readers are all MatMuls by a constant gets gamma and beta times the factor in these
    channels, and the matrices' rows are divided by it. Source: the reverse of SmoothQuant's equation 3; such outliers
    are what Bondarenko et al. 2023 find in trained ViTs.
    """
    planted = onnx.ModelProto()
    planted.CopyFrom(model)
    graph = planted.graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for norm in [node for node in graph.node if node.op_type == "LayerNormalization"]:
        readers = [node for node in graph.node if norm.output[0] in node.input]
        if not all(node.op_type == "MatMul" and node.input[1] in arrays for node in readers):
            continue
        factors = np.ones(len(arrays[norm.input[1]]), np.float32)
        factors[list(channels)] = factor
        edits = [(norm, 1, factors), (norm, 2, factors), *((node, 1, 1 / factors[:, None]) for node in readers)]
        for node, index, by in edits:
            name = f"{node.name}_planted_{index}"
            graph.initializer.append(numpy_helper.from_array((arrays[node.input[index]] * by).astype(np.float32), name))
            node.input[index] = name
    return planted
