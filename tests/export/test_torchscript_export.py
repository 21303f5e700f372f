from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CLASSES, VIT_SHAPE, random_pixels, vit_model
from torch import nn

from edgevit.errors import EdgevitError
from edgevit.export.torchscript import export_torchscript
from edgevit.runtimes import open_session

# What a program without edgevit, timm or torchvision does with the file.
FRESH = """
import json, sys, warnings
import torch
warnings.simplefilter("ignore")
extra = {"input_shape.json": ""}
model = torch.jit.load(sys.argv[1], _extra_files=extra)
shape = json.loads(extra["input_shape.json"])
with torch.no_grad():
    logits = model(torch.full(shape, 0.5))
foreign = [name for name in ("timm", "torchvision", "edgevit") if name in sys.modules]
print(json.dumps({"shape": shape, "logits": logits.tolist(), "foreign": foreign}))
"""


class Refusing(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a first line that tells\nand a second that does not")


class Mute(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError


class Mistaken(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such thing")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_torchscript(vit_model(), VIT_SHAPE, tmp_path_factory.mktemp("script") / "vit.ts")


def test_the_script_says_what_the_model_says(script: Path) -> None:
    pixels = random_pixels(VIT_SHAPE)
    with torch.no_grad():
        expected = vit_model()(torch.from_numpy(pixels)).numpy()
    session = open_session(script, "torchscript", 1)
    np.testing.assert_allclose(session.run(pixels), expected, rtol=0, atol=1e-5)
    assert session.input_shape == VIT_SHAPE


def test_a_fresh_interpreter_opens_it_without_timm(script: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FRESH, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(ended.stdout)
    with torch.no_grad():
        expected = vit_model()(torch.full(VIT_SHAPE, 0.5)).numpy()
    assert (found["shape"], found["foreign"]) == (list(VIT_SHAPE), [])
    assert np.shape(found["logits"]) == (1, CLASSES)
    np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Refusing(), "a first line that tells"), (Mute(), "RuntimeError"), (Mistaken(), "no such thing")],
)
def test_a_model_that_cannot_be_traced_is_refused_in_one_line(tmp_path: Path, model: nn.Module, reason: str) -> None:
    with pytest.raises(EdgevitError, match=rf"^This model cannot be exported to TorchScript: {reason}$"):
        export_torchscript(model, VIT_SHAPE, tmp_path / "no.ts")
    assert not (tmp_path / "no.ts").exists()
