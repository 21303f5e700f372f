"""Everything that a user may hand to edgevit by mistake, made from a whole workplace."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from PIL import Image


def add_broken_things(root: Path) -> None:
    """Fills broken/ in the workplace `root`, which has bundle/, checkpoint/, run/ and tiny.yaml; and onnx/, whole."""
    (root / "broken").mkdir()
    _folders(root / "broken")
    _pictures(root / "broken", root / "pictures")
    _recipes(root / "broken", (root / "tiny.yaml").read_text())
    _graphs(root / "broken")
    _bundles(root / "broken", root / "bundle")
    _checkpoints(root / "broken", root / "checkpoint")
    _runs(root / "broken", root / "run")


class RunsCode:
    """Its pickle makes the file 'canary' when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("canary",))


def _folders(root: Path) -> None:
    (root / "empty").mkdir()
    (root / "file").write_text("not a folder")
    for name in ("one-class/cats", "hollow/cats", "hollow/dogs", "no-train/test/cats", "no-train/test/dogs"):
        (root / name).mkdir(parents=True)


def _pictures(root: Path, good: Path) -> None:
    cat = good / "cats" / "0.png"
    shutil.copy(cat, root / "one-class" / "cats")
    shutil.copytree(good, root / "loose")
    shutil.copy(cat, root / "loose")
    shutil.copytree(good, root / "few")
    for number in (2, 3, 4):
        (root / "few" / "dogs" / f"{number}.png").unlink()
    shutil.copytree(good, root / "one-broken")
    (root / "one-broken" / "dogs" / "1.png").write_bytes(cat.read_bytes()[:60])
    (root / "truncated.png").write_bytes(cat.read_bytes()[:200])
    (root / "empty.png").touch()
    (root / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((1, 3000), np.uint8)).save(root / "thin.png")


def _recipes(root: Path, good: str) -> None:
    changes = {
        "unknown-key": ("train: {epochs: 1}", "train: {epoch: 1}"),
        "unknown-top-key": ("train:", "trian:"),
        "wrong-type": ("epochs: 1", "epochs: many"),
        "boolean": ("epochs: 1", "epochs: true"),
        "negative": ("max_drop: null", "max_drop: -1"),
        "no-latency": ("max_drop: null", "max_latency_ms: 0"),
        "infinite": ("max_drop: null", "max_drop: .inf"),
        "duplicate": ("device: rpi5\n", "device: rpi5\ndevice: rpi4\n"),
        "tab": ("train: {epochs: 1}", "train:\n\tepochs: 1"),
        "open-brace": ("{epochs: 1}", "{epochs: 1"),
        "tag": ("source: digits", "source: !!python/name:os.system digits"),
        "anchor": ("name: tiny\n", "name: &name tiny\n"),
        "no-model": ("model:", "modle:"),
        "unknown-precision": ("precision: fp32", "precision: int8-statc"),
        "unknown-runtime": ("runtime: onnxruntime", "runtime: ncnn"),
        "unknown-device": ("device: rpi5", "device: rpi-5"),
        "unknown-dataset": ("source: digits", "source: digitz"),
        "unknown-model": ("name: vit_tiny_patch16_224", "name: vit_tiny_patch16_225"),
        "odd-size": ("image_size: 32", "image_size: 33"),
        "reserved-args": ("patch_size: 8", "img_size: 8"),
        "bad-args": ("patch_size: 8", "patch_sizes: 8"),
        "pretrained": ("  weights: random\n", ""),
        "bad-name": ("name: tiny\n", "name: ../tiny\n"),
        "huge-split": ("val_fraction: 0.2", "val_fraction: 0.85"),
        "few-pictures": ("train_limit: 200", "train_limit: 5"),
        "impossible-parity": (
            "precision: fp32, runtime: onnxruntime}",
            "precision: int8-static, runtime: onnxruntime}\nparity: {int8_cosine: 1.0}",
        ),
    }
    for name, (old, new) in changes.items():
        assert good.count(old) == 1, old
        (root / f"{name}.yaml").write_text(good.replace(old, new))
    (root / "empty.yaml").touch()
    (root / "list.yaml").write_text("- name: tiny\n")
    (root / "latin1.yaml").write_bytes("name: tiny\n# gr\xfc\xdfe\n".encode("latin1"))
    (root / "device.yaml").write_text("name: board\n")


def _graphs(root: Path) -> None:
    def graph(folder: str, inputs: int, side: int = 8) -> Path:
        pixels = [
            helper.make_tensor_value_info(f"pixels{i}", TensorProto.FLOAT, [1, 3, side, side]) for i in range(inputs)
        ]
        nodes = [
            helper.make_node("Sum", [value.name for value in pixels], ["sum"]),
            helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["logits"]),
        ]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
        model = helper.make_model(
            helper.make_graph(nodes, "tiny", pixels, [logits]),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=9,
        )
        path = root / folder / "model.onnx"
        path.parent.mkdir()
        onnx.save(model, path)
        return path

    preprocess = {
        "schema_version": 1, "height": 8, "width": 8, "channels": 3, "resize": 8, "crop_mode": "center",
        "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "color": "RGB",
    }  # fmt: skip
    graph("onnx-alone", 1)
    whole = graph("../onnx", 1)
    _write_json(whole.with_name("preprocess.json"), preprocess)
    other_size = graph("onnx-other-size", 1, side=16)
    _write_json(other_size.with_name("preprocess.json"), preprocess)
    labels = graph("onnx-other-labels", 1)
    _write_json(labels.with_name("preprocess.json"), preprocess)
    labels.with_name("labels.txt").write_text("cats\ndogs\n")
    damaged = graph("onnx-bad-preprocess", 1)
    damaged.with_name("preprocess.json").write_text("{")
    two = graph("onnx-two-inputs", 2)
    _write_json(two.with_name("preprocess.json"), preprocess)
    (root / "truncated.onnx").write_bytes(whole.read_bytes()[:-40])
    (root / "empty.onnx").touch()
    (root / "folder.onnx").mkdir()


def _bundles(root: Path, good: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, root / name))

    changed = copy("bundle-changed") / "model.onnx"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    (copy("bundle-missing") / "labels.txt").unlink()
    (copy("bundle-extra") / "notes.txt").write_text("mine")
    (copy("bundle-cut") / "golden.npz").write_bytes((good / "golden.npz").read_bytes()[:100])
    _edit_json(copy("bundle-newer") / "manifest.json", schema_version=2)
    manifest = json.loads((good / "manifest.json").read_text())
    _edit_json(
        copy("bundle-leaving") / "manifest.json",
        files={**manifest["files"], "../run/report.html": manifest["files"]["labels.txt"]},
    )
    (copy("bundle-bad-manifest") / "manifest.json").write_text("{")
    (copy("bundle-linked") / "labels.txt").unlink()
    (root / "bundle-linked" / "labels.txt").symlink_to(good / "labels.txt")


def _checkpoints(root: Path, good: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, root / name))

    weights = good / "model.safetensors"
    (copy("checkpoint-cut") / "model.safetensors").write_bytes(weights.read_bytes()[:5000])
    _edit_json(copy("checkpoint-newer") / "checkpoint.json", schema_version=2)
    _edit_json(copy("checkpoint-other") / "checkpoint.json", args={"patch_size": 8, "embed_dim": 64, "depth": 2})
    (copy("checkpoint-no-info") / "checkpoint.json").unlink()
    (copy("checkpoint-no-weights") / "model.safetensors").unlink()
    shutil.copy(weights, root / "weights.safetensor")
    torch.save({"weights": torch.zeros(1)}, root / "other.pth")
    (root / "cut.pth").write_bytes((root / "other.pth").read_bytes()[:100])
    with (root / "evil.pth").open("wb") as file:
        pickle.dump(RunsCode(), file)


def _runs(root: Path, good: Path) -> None:
    (root / "run-empty").mkdir()
    (root / "run-newer").mkdir()
    shutil.copy(good / "metrics.json", root / "run-newer")
    _edit_json(root / "run-newer" / "metrics.json", schema_version=2)
    (root / "report.json").write_text('{"kind": "bench"}')
    (root / "report-newer.json").write_text('{"kind": "bench", "schema_version": 2}')


def _edit_json(path: Path, **changes: Any) -> None:
    _write_json(path, {**json.loads(path.read_text()), **changes})


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document))
