"""What a torch model says about pictures: its logits, its loss, its top-1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edgevit.data.batches import Run, predict_all

if TYPE_CHECKING:
    from edgevit.board.preprocess import Preprocess
    from edgevit.data.pictures import PictureSet

BATCH_SIZE = 128


def torch_run(model: nn.Module) -> Run:
    """A function from pixels, float32 (N, channels, height, width), to logits, float32 (N, classes).

    It runs in evaluation mode, on the device that holds the model, and leaves the model in the mode it was in.
    """

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        was_training = model.training
        model.eval()
        device = next(model.parameters()).device
        with torch.inference_mode():
            logits = model(torch.from_numpy(np.ascontiguousarray(pixels)).to(device))
        model.train(was_training)
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    return run


def loss_and_top1(model: nn.Module, pictures: PictureSet, preprocess: Preprocess) -> tuple[float, float]:
    """Mean cross entropy in nats, without label smoothing, and top-1 in percent, over all of `pictures`."""
    logits = predict_all(torch_run(model), pictures, preprocess, BATCH_SIZE)
    return logits_loss_and_top1(logits, pictures.labels)


def logits_loss_and_top1(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Mean cross entropy in nats and top-1 in percent. logits: (N, classes). labels: (N,). N is at least 1."""
    loss = functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))
    return float(loss), float(100.0 * np.mean(logits.argmax(axis=1) == labels))
