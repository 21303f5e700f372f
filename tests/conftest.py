"""Fixtures that several rooms' tests share: a tiny ONNX model and a tiny bundle, both made by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny_figures import BIAS, CLASSES, SIDE, WEIGHTS, tiny_logits

import edgevit  # noqa: F401  # before any test imports ONNX Runtime, whose telemetry it turns off

if TYPE_CHECKING:
    from edgevit.assemble import Assembled
    from edgevit.bench.interleave import Interleaved


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_ones_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a developer's own boards taught edgevit has no part in tests, and tests none in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture
def make_onnx(tmp_path: Path) -> Callable[..., Path]:
    """make_onnx(name, batch=1) writes the tiny model: global average pool, then one Gemm. batch 'N' leaves it free."""
    onnx = pytest.importorskip("onnx")

    def make(name: str = "tiny.onnx", batch: int | str = 1) -> Path:
        helper = onnx.helper
        graph = helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["colors"], axis=1),
                helper.make_node("Gemm", ["colors", "weights", "bias"], ["logits"]),
            ],
            "tiny",
            [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [batch, CLASSES])],
            [onnx.numpy_helper.from_array(WEIGHTS, "weights"), onnx.numpy_helper.from_array(BIAS, "bias")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path

    return make


@pytest.fixture
def make_bundle(tmp_path: Path, make_onnx: Callable[..., Path]) -> Callable[..., Path]:
    """make_bundle(name, batch=1, agent=text, **keys) writes a whole bundle of the tiny model; `keys` go into the
    manifest, and 'golden_logits' replaces the expected logits."""

    def make(name: str = "bundle", batch: int | str = 1, agent: str = "", **keys: Any) -> Path:
        root = tmp_path / name
        root.mkdir(parents=True)
        make_onnx(f"{name}/model.onnx", batch)
        images = np.random.default_rng(3).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
        logits = keys.pop("golden_logits", tiny_logits(images))
        np.savez(root / "golden.npz", images=images, logits=logits, classes=logits.argmax(axis=1).astype(np.int64))
        (root / "labels.txt").write_text("red\ngreen\nblue\ngray\n")
        (root / "requirements.txt").write_text("numpy\nonnxruntime\n")
        preprocess = {
            "schema_version": 1, "height": SIDE, "width": SIDE, "channels": 3, "resize": SIDE, "crop_mode": "center",
            "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "color": "RGB",
        }  # fmt: skip
        (root / "preprocess.json").write_text(json.dumps(preprocess))
        if agent:
            (root / "agent.py").write_text(agent)
        manifest = {
            "schema_version": 1,
            "kind": "bundle",
            "edgevit": "0.1.0",
            "created": "2026-01-02T03:04:05Z",
            "model": {"name": "tiny", "weights": "random", "input_shape": [1, 3, SIDE, SIDE], "classes": CLASSES},
            "device": {"name": "local", "arch": "x86_64", "threads": 1, "measured_on": None},
            "precision": "fp32",
            "runtime": {"name": "onnxruntime", "version": "1.31.1", "entry": "model.onnx", "session": {}},
            "accuracy": {},
            "calibration": None,
            "parity": [],
            "golden": {"cosine": 0.9999, "top1_agreement": 1.0},
            "verdict": {"shipped": "fp32", "budget": {}, "within_budget": True, "sentences": ["fp32 was shipped."]},
            **keys,
        }
        write_manifest(root, manifest)
        return root

    return make


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """manifest.json with the size and sha256 of every other file in `root`."""
    files = {
        path.relative_to(root).as_posix(): {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    (root / "manifest.json").write_text(json.dumps({"files": files, **manifest}))


@pytest.fixture
def sign_bundle() -> Callable[[Path], None]:
    """sign_bundle(root) writes the manifest's file list again, after a file was changed on purpose."""

    def sign(root: Path) -> None:
        manifest = json.loads((root / "manifest.json").read_text())
        manifest.pop("files")
        write_manifest(root, manifest)

    return sign


@pytest.fixture
def assembled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Assembled]:
    """assembled(timings, precision='int8-dynamic', …) makes tmp_path/bundle; `changes`: assemble_bundle's arguments."""
    from digits_shop import DYNAMIC_WINS, assemble_as_if  # torch is for those who ask

    from edgevit.recipe import ExportSpec

    def make(
        timings: dict[str, Interleaved] = DYNAMIC_WINS,
        *,
        precision: str = "int8-dynamic",
        runtime: str = "onnxruntime",
        **changes: Any,
    ) -> Assembled:
        spec = ExportSpec(precision=precision, runtime=runtime)  # type: ignore[arg-type]
        return assemble_as_if(tmp_path / "bundle", monkeypatch, timings, spec=spec, **changes)

    return make
