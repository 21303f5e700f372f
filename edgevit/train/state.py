"""What a training run keeps in its directory: the best weights, and enough to go on after an interruption.

Both files are replaced as a whole, so that a killed run leaves each as it was after its last complete epoch.
"""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from edgevit.errors import BadFileError, InputError
from edgevit.results import Epoch
from edgevit.store import write_bytes

WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "training.pt"

Plan = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """The epochs done. `weights` and `optimizer` are as they were after them; None when no epoch is left to do."""

    curves: tuple[Epoch, ...] = ()
    weights: dict[str, Any] | None = None
    optimizer: dict[str, Any] | None = None


def best_epoch(curves: tuple[Epoch, ...]) -> Epoch:
    """The epoch of the highest validation top-1; of equal ones that of the lower loss, then the earlier one."""
    return max(curves, key=lambda epoch: (epoch.val_top1, -epoch.val_loss))


def save_weights(directory: Path, model: nn.Module) -> None:
    """Writes the model's weights to WEIGHTS_FILE."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(directory / WEIGHTS_FILE, save(tensors))


def load_weights(directory: Path, model: nn.Module) -> None:
    """Gives `model` the weights of WEIGHTS_FILE. Raises BadFileError when they are damaged or another model's."""
    path = directory / WEIGHTS_FILE
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _unusable(path) from error


def save_progress(directory: Path, plan: Plan, progress: Progress) -> None:
    """Writes STATE_FILE: plain values and tensors only, so that it loads without running code."""
    content = io.BytesIO()
    document = {
        "plan": plan,
        "curves": [epoch.model_dump() for epoch in progress.curves],
        "weights": progress.weights,
        "optimizer": progress.optimizer,
    }
    torch.save(document, content)
    write_bytes(directory / STATE_FILE, content.getvalue())


def load_progress(directory: Path, plan: Plan) -> Progress:
    """What an earlier run with the same plan left in `directory`; an empty Progress when there was none.

    Raises InputError when its plan was another one, BadFileError when the file is damaged or is no training state.
    """
    path = directory / STATE_FILE
    if not path.exists():
        return Progress()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a foreign pickle: it is refused in our own words
            document = torch.load(path, map_location="cpu", weights_only=True)
        earlier = document["plan"]
        curves = tuple(Epoch.model_validate(epoch) for epoch in document["curves"])
        progress = Progress(curves, document["weights"], document["optimizer"])
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError, ValidationError) as error:
        raise _unusable(path) from error
    if earlier != plan:
        raise InputError(
            f"{directory}: holds a run with other settings ({_differences(earlier, plan)}). "
            "Give another directory, or the same settings again to resume it."
        )
    return progress


def unusable_state(directory: Path) -> BadFileError:
    return _unusable(directory / STATE_FILE)


def _differences(earlier: Plan, plan: Plan) -> str:
    keys = [key for key in (*plan, *(earlier.keys() - plan.keys())) if earlier.get(key) != plan.get(key)]
    return ", ".join(f"{key} was {earlier.get(key)}, is {plan.get(key)}" for key in keys)


def _unusable(path: Path) -> BadFileError:
    return BadFileError(path, "cannot be read as what training left there.", fix="Delete it to start over.")
