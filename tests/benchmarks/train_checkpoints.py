"""Real, affordable checkpoints for the benchmarks: Fashion-MNIST at growing sizes, the native one last.

    python tests/benchmarks/train_checkpoints.py DIR [MODEL…] [--threads 1]

Each stage starts from the one before it; position embeddings are interpolated. About 15 minutes a model on one thread
of an AMD EPYC with AVX-512, bfloat16 where the processor has it. The scores are modest and real: what the benchmarks
ask is what an artifact loses against its own fp32.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from edgevit.board.preprocess import Preprocess
from edgevit.data.datasets import Dataset, open_dataset
from edgevit.data.pictures import PictureSet
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.create import create_model, preprocess_for
from edgevit.models.resize import resize_model
from edgevit.models.torchvision_ops import import_timm
from edgevit.recipe import RANDOM, DataSpec, ModelSpec

SOURCE = DataSpec(source="fashion-mnist")
SEED = 0


@dataclass(frozen=True)
class Stage:
    """smaller: sides that every other batch is drawn at, for a model that takes any size; smaller pictures then cost
    it less accuracy, as they do a model that was trained on crops of many sizes.
    """

    side: int
    pictures: int
    learning_rate: float
    batch: int
    smaller: tuple[int, ...] = ()


STAGES = {
    "deit_tiny_patch16_224": (Stage(64, 60_000, 1e-3, 96), Stage(112, 20_000, 6e-4, 64), Stage(224, 6_000, 3e-4, 48)),
    "mobilevit_s": (
        Stage(64, 24_000, 1e-3, 64), Stage(128, 6_000, 6e-4, 48), Stage(256, 1_200, 3e-4, 24),
        Stage(256, 2_400, 3e-4, 24, (224, 192)),
    ),
    "fastvit_t8": (Stage(64, 24_000, 1e-3, 64), Stage(128, 3_600, 6e-4, 48), Stage(256, 900, 3e-4, 20)),
    "efficientvit_m0": (Stage(224, 20_000, 1e-3, 64),),
    "mobilenetv4_conv_small": (Stage(96, 16_000, 1e-3, 64), Stage(224, 2_400, 3e-4, 48)),
    "mobilevitv2_050": (Stage(64, 24_000, 1e-3, 64), Stage(128, 6_000, 6e-4, 48), Stage(256, 1_200, 3e-4, 24)),
    "vit_small_patch14_dinov2": (Stage(70, 9_600, 6e-4, 64), Stage(112, 1_600, 4e-4, 40), Stage(224, 400, 2e-4, 20)),
    "swin_tiny_patch4_window7_224": (Stage(112, 5_000, 6e-4, 40), Stage(224, 400, 2e-4, 20)),
}  # fmt: skip
# oneDNN's backward of FastViT's large depthwise convolutions corrupts memory above 64 px (torch 2.13, AVX-512).
WITHOUT_ONEDNN = {"fastvit_t8"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", default=tuple(STAGES))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = open_dataset(SOURCE)
    for name in arguments.models:
        if (arguments.folder / name).exists():
            print(f"{name}: is there")
            continue
        train(name, dataset, arguments.folder / name)


def train(name: str, dataset: Dataset, target: Path) -> None:
    """Goes through the model's stages; the last one's weights become the checkpoint directory."""
    torch.manual_seed(SEED)
    generator = np.random.default_rng(SEED)
    torch.backends.mkldnn.enabled = name not in WITHOUT_ONEDNN
    spec = ModelSpec(name=name, image_size=STAGES[name][0].side, weights=RANDOM)
    model = create_model(spec, len(dataset.classes), seed=SEED)
    for stage in STAGES[name]:
        model = resize_model(model, stage.side)
        sides = (stage.side, *stage.smaller)
        preprocesses = [preprocess_for(resize_model(model, side), spec) for side in sides]
        preprocess = preprocesses[0]
        start = time.monotonic()
        run_stage(model, preprocesses, dataset.train, stage, generator)
        print(f"{name}: {stage.side} px, {stage.pictures} pictures, {time.monotonic() - start:.0f} s", flush=True)
    info = Checkpoint(
        model=name,
        args={},
        classes=len(dataset.classes),
        channels=preprocess.channels,
        image_size=preprocess.height,
        labels=dataset.classes,
        preprocess=preprocess.to_json(),
        weights=RANDOM,
        trained_on=SOURCE,
        epochs=1,
        val_top1=100 * accuracy(model.eval(), preprocess, dataset.val),
    )
    save_checkpoint(target, model, info)


def run_stage(
    model: nn.Module,
    preprocesses: Sequence[Preprocess],
    pictures: PictureSet,
    stage: Stage,
    generator: np.random.Generator,
) -> None:
    """preprocesses: of the stage's side, then of each of its smaller ones."""
    import_timm()
    from timm.optim import create_optimizer_v2

    optimizer = create_optimizer_v2(model, opt="adamw", lr=stage.learning_rate, weight_decay=0.05)
    steps = stage.pictures // stage.batch
    is_bfloat16 = torch.backends.mkldnn.enabled and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    model.train()
    for step, (pixels, labels) in enumerate(batches(pictures, preprocesses, stage.batch, steps, generator)):
        warmth = min(1.0, (step + 1) / (0.1 * steps))
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * warmth * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bfloat16):
            logits = model(pixels)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def batches(
    pictures: PictureSet, preprocesses: Sequence[Preprocess], size: int, count: int, generator: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(pixels (size, C, H, W), labels (size,)), drawn anew each time and flipped half of the time.

    Every other batch is by one of the preprocesses after the first, in turn.
    """
    smaller = itertools.cycle(preprocesses[1:] or preprocesses)
    for index in range(count):
        preprocess = next(smaller) if index % 2 else preprocesses[0]
        rows = generator.integers(len(pictures), size=size)
        pixels = as_input(pictures, preprocess, rows)
        flipped = torch.from_numpy(generator.random(size) < 0.5).view(-1, 1, 1, 1)
        yield torch.where(flipped, pixels.flip(3), pixels), torch.from_numpy(pictures.labels[rows])


def as_input(pictures: PictureSet, preprocess: Preprocess, rows: np.ndarray) -> torch.Tensor:
    """(N, C, H, W), resized by torch, which is fast; bicubic with antialiasing as Pillow has it."""
    raw = np.stack([np.asarray(pictures.load(int(row)).convert("RGB")) for row in rows])
    pixels = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255
    side = preprocess.resize or preprocess.height
    pixels = F.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
    margin = (side - preprocess.height) // 2
    pixels = pixels[:, :, margin : margin + preprocess.height, margin : margin + preprocess.width]
    mean, std = (torch.tensor(figures).view(1, -1, 1, 1) for figures in (preprocess.mean, preprocess.std))
    return (pixels - mean) / std


@torch.no_grad()
def accuracy(model: nn.Module, preprocess: Preprocess, pictures: PictureSet, count: int = 500) -> float:
    rows = np.arange(min(count, len(pictures)))
    hits = [
        (model(as_input(pictures, preprocess, part)).argmax(1).numpy() == pictures.labels[part]).sum()
        for part in np.array_split(rows, max(1, len(rows) // 50))
    ]
    return float(sum(hits)) / len(rows)


if __name__ == "__main__":
    main()
