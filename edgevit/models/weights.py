"""Weights: read from a file without running code, or drawn at random so that no part of a model is idle."""

from __future__ import annotations

import pickle
import pickletools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgevit.errors import BadFileError, MissingExtraError

WEIGHTS_FILE = "model.safetensors"
PICKLE_SUFFIXES = (".pth", ".pt", ".bin")

# Where training scripts put the weights inside a .pth; averaged weights are what their authors evaluated.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")

# A parameter with a smaller mean magnitude switches its branch off, or nearly: values all the same, and others.
_IDLE = 0.05
_IDLE_SPREAD = 1e-3
_STATISTICS_PICTURES = 8
_LEAST_VARIANCE = 0.01  # of a BatchNorm's channel, as a part of its layer's mean square


def weights_file(path: str | Path) -> Path:
    """The file that holds the weights: `path` itself, or model.safetensors in the checkpoint directory `path`.

    Raises BadFileError when there is none.
    """
    given = Path(path)
    file = given / WEIGHTS_FILE if given.is_dir() else given
    if not file.is_file():
        problem = f"has no {WEIGHTS_FILE}." if given.is_dir() else "does not exist."
        fix = "Name a checkpoint directory, or a .safetensors, .pth, .pt or .bin file."
        raise BadFileError(given, problem, fix=fix)
    return file


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors by name of a checkpoint directory, a .safetensors file, or a .pth, .pt or .bin file.

    The latter are pickles: what would run code when loaded is refused. Raises BadFileError.
    """
    file = weights_file(path)
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    if file.suffix in PICKLE_SUFFIXES:
        return _tensors_in(_read_pickle(file), file)
    known = ", ".join((".safetensors", *PICKLE_SUFFIXES))
    raise BadFileError(file, f"'{file.suffix}' is no suffix of weights; known are {known}.")


def fill_random(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Gives every idle parameter small random values and every BatchNorm the statistics of smooth random pictures.

    A fresh model has biases, layer scales and last BatchNorms of a branch at or near zero: whole branches then compute
    nothing, which sparse kernels and quantizers turn into figures that no trained model reaches.
    input_shape: (channels, height, width). Draws from torch's global generator.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if _is_idle(parameter):
                _fill_idle(name, parameter)
        _set_statistics(model, input_shape)


def random_pictures(
    count: int, input_shape: tuple[int, int, int], generator: torch.Generator | None = None
) -> torch.Tensor:
    """Normalized inputs (count, channels, height, width) with a photo's smooth shapes and a little grain.

    White noise is no stand-in: it is so far from what BatchNorms expect that LeViT and EfficientViT amplify float32
    rounding to several percent of the logits.
    """
    channels, height, width = input_shape
    coarse = torch.randn(count, channels, 7, 7, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth + 0.25 * torch.randn(count, channels, height, width, generator=generator)


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise MissingExtraError("safetensors", "train") from error
    try:
        tensors: dict[str, torch.Tensor] = load_file(file)
    except SafetensorError as error:
        problem = f"is not a whole safetensors file ({_first_line(error)})."
        raise BadFileError(file, problem, fix="Copy or download it again.") from error
    except OSError as error:
        raise BadFileError(file, f"cannot be read: {error.strerror or _first_line(error)}.") from error
    return tensors


def _read_pickle(file: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's hints at other kinds of files: each is refused below
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadFileError(file, f"cannot be read: {error.strerror or _first_line(error)}.") from error
    except Exception as error:  # a damaged pickle can end in any exception
        if isinstance(error, pickle.UnpicklingError) and _is_refusal(str(error), file):
            problem = "is a pickle that could run code when loaded: refused."
            fix = "Save its state_dict as .safetensors where you trust it."
            raise BadFileError(file, problem, fix=fix) from error
        problem = "is not a whole file of PyTorch weights."
        raise BadFileError(file, problem, fix="Copy or download it again.") from error


def _is_refusal(message: str, file: Path) -> bool:
    """True when torch refused the content, and False when the file is damaged: both are UnpicklingErrors.

    torch reads pickles of protocol 2 only: in a newer one it stops at an operand, before any name.
    """
    if "Unsupported operand" not in message:
        return "GLOBAL" in message
    with file.open("rb") as content:
        try:
            return all(True for _opcode in pickletools.genops(content))
        except (ValueError, IndexError, EOFError):
            return False


def _tensors_in(content: object, file: Path) -> dict[str, torch.Tensor]:
    if isinstance(content, dict):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        content = content[wrapper] if wrapper else content
    if not isinstance(content, dict) or not content or not all(map(_is_named_tensor, content.items())):
        raise BadFileError(file, "holds no state_dict: tensors by name.", fix="Save model.state_dict().")
    return {_without_prefixes(name): tensor for name, tensor in content.items()}


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], torch.Tensor)


def _without_prefixes(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def _is_idle(parameter: torch.Tensor) -> bool:
    if parameter.numel() == 0 or not parameter.is_floating_point():
        return False
    values = parameter.detach()
    is_constant = bool((values == values.flatten()[0]).all())
    return float(values.abs().mean()) < (_IDLE if is_constant else _IDLE_SPREAD)


def _fill_idle(name: str, parameter: torch.Tensor) -> None:
    is_gain = parameter.numel() == max(parameter.shape, default=1) and bool(parameter.any())
    is_norm = parameter.ndim == 1 and not name.rpartition(".")[2].startswith("bias")
    if not is_gain and not is_norm:
        nn.init.normal_(parameter, std=0.02)
    else:  # the gain of a branch: its sign and size as training leaves them
        nn.init.uniform_(parameter, 0.1, 0.3)


def _set_statistics(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the running statistics become this batch's
    model(random_pictures(_STATISTICS_PICTURES, input_shape))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        if norm.running_mean is not None and norm.running_var is not None:
            # Channels that hardly move around a large mean would be blown up, and rounding errors with them.
            power = float((norm.running_var + norm.running_mean**2).mean())
            norm.running_var.clamp_(min=max(_LEAST_VARIANCE * power, 1e-5))
