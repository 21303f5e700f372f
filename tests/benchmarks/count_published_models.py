"""Counts what the models of devices/latencies/published.yaml have to do, and writes devices/latencies/operators.json.

    python tests/benchmarks/count_published_models.py [MODEL…]

Each is built by timm or torchvision without weights, exported and optimized as ONNX Runtime runs it on ARM, and its
operators are counted by kind. Models named on the command line are counted again, the others kept. 10 minutes for all.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import torch

from edgevit.cost.armgraph import graph_on_arm
from edgevit.export.onnx import export_onnx
from edgevit.latency.graph import operators_of
from edgevit.models.torchvision_ops import import_timm
from edgevit.store import write_text

TARGET = Path(__file__).resolve().parents[2] / "devices" / "latencies" / "operators.json"
# Name, with '@' and the side in pixels, and the library that builds it.
TORCHVISION = (
    "resnet18@224", "resnet50@224", "resnet50_v1@224", "wide_resnet50_2@224", "mobilenet_v2@224",
    "mobilenet_v3_large@224", "mobilenet_v3_small@224", "mnasnet1_0@224", "shufflenet_v2_x1_0@224", "squeezenet1_0@224",
    "squeezenet1_1@227", "vgg16@224", "googlenet@224", "regnet_y_400mf@224", "efficientnet_b0@224",
)  # fmt: skip
TIMM = (
    "mobilenetv1_100@224", "tf_efficientnetv2_b0@224", "convnext_base@224", "convnext_atto@224",
    "mobilenetv4_conv_small@224", "deit_tiny_patch16_224@224", "deit_small_patch16_224@224",
    "vit_base_patch32_384@384", "vit_base_patch32_clip_224@224", "swin_tiny_patch4_window7_224@224",
    "mobilevit_xxs@256", "mobilevit_xs@256", "mobilevit_s@256", "mobilevitv2_050@256", "fastvit_t8@256",
    "efficientvit_m0@224", "efficientvit_m2@224", "efficientvit_b1@224", "levit_128s@224", "edgenext_xx_small@256",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    chosen = parser.parse_args().models or [*TORCHVISION, *TIMM]
    found: dict[str, Any] = json.loads(TARGET.read_text())["models"] if TARGET.exists() else {}
    for name in chosen:
        found[name] = count(name)
        print(f"{name}: {total(found[name]) / 1e9:.3f} G multiply-accumulates, {len(found[name])} kinds of node")
        write(found)


def count(name: str) -> list[list[Any]]:
    """[kind, count, macs, weights, activations] of each operator; see edgevit.latency.operators."""
    model, side = built(name)
    graph = graph_on_arm(export_onnx(model, (1, 3, side, side)))
    operators = operators_of(graph)
    assert all(operator.precision == "fp32" for operator in operators if operator.macs), name
    assert any(operator.macs for operator in operators), name
    return [[item.kind, item.count, item.macs, item.weights, item.activations] for item in operators]


def built(name: str) -> tuple[torch.nn.Module, int]:
    timm = import_timm()  # makes torchvision importable, too
    torchvision = importlib.import_module("torchvision")
    architecture, side = name.split("@")
    torch.manual_seed(0)
    if name in TIMM:
        return timm.create_model(architecture, pretrained=False).eval(), int(side)
    extra = {"init_weights": False, "aux_logits": False} if architecture == "googlenet" else {}
    model = torchvision.models.get_model(architecture.removesuffix("_v1"), weights=None, **extra).eval()
    if architecture == "resnet50_v1":  # as first published: the stride is in the first convolution of a block
        for block in (module for module in model.modules() if isinstance(module, torchvision.models.resnet.Bottleneck)):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return model, int(side)


def total(rows: list[list[Any]]) -> int:
    return sum(row[1] * row[2] for row in rows)


def write(found: dict[str, Any]) -> None:
    """A line each operator, so that a change can be read."""
    models = []
    for name in sorted(found):
        lines = ",\n".join(f"      {json.dumps(row)}" for row in found[name])
        models.append(f'    "{name}": [\n{lines}\n    ]')
    columns = json.dumps(["kind", "count", "macs", "weights", "activations"])
    text = '{{\n  "schema_version": 1,\n  "columns": {},\n  "models": {{\n{}\n  }}\n}}\n'
    TARGET.parent.mkdir(exist_ok=True)
    write_text(TARGET, text.format(columns, ",\n".join(models)))


if __name__ == "__main__":
    main()
