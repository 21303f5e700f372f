"""Real graphs for the rewrites: one small model of each family, exported once for all of pytest's workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from filelock import FileLock
from tiny_models import deit_graph

from edgevit.export.onnx import export_onnx
from edgevit.models.create import create_model
from edgevit.models.fusion import fuse_for_inference
from edgevit.recipe import ModelSpec

CLASSES = 10
FAMILIES = ("vit", "deit distilled", "mobilevit", "efficientvit", "fastvit", "swin")


def _exported(family: str) -> onnx.ModelProto:
    if family == "deit distilled":
        return deit_graph()
    model, side = _models()[family]()
    return export_onnx(model, (1, 3, side, side))


def _models() -> dict[str, Any]:
    vit = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}
    swin = {"embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
    return {
        "vit": lambda: (_created("vit_tiny_patch16_224", 32, vit), 32),
        "mobilevit": lambda: (_created("timm:mobilevit_xxs", 64), 64),
        "efficientvit": lambda: (_created("efficientvit_m0", 64), 64),
        "fastvit": lambda: (_created("fastvit_t8", 64, fuse=False), 64),
        "swin": lambda: (_created("timm:swin_tiny_patch4_window7_224", 64, swin), 64),
    }


def _created(name: str, side: int, args: dict[str, Any] | None = None, fuse: bool = True) -> torch.nn.Module:
    spec = ModelSpec(name=name, args=args or {}, image_size=side, weights="random")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(spec, CLASSES)
    model = fuse_for_inference(model) if fuse else model
    return model.eval().requires_grad_(False)


@pytest.fixture(params=FAMILIES, scope="session")
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def graph_of(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str], onnx.ModelProto]:
    """graph_of(family): the exported graph of one family."""
    base = tmp_path_factory.getbasetemp()
    folder: Path = (base if worker_id == "master" else base.parent) / "exported-families"
    folder.mkdir(exist_ok=True)

    def load(family: str) -> onnx.ModelProto:
        path = folder / f"{family}.onnx"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                onnx.save(_exported(family), path)
        return onnx.load(path)

    return load


@pytest.fixture
def family_graph(family: str, graph_of: Callable[[str], onnx.ModelProto]) -> onnx.ModelProto:
    return graph_of(family)
