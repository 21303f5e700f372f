"""Models: from a name and a size to a torch model with weights, and what belongs to it."""

from __future__ import annotations

import copy
import logging
import math
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgevit.board.preprocess import INTERPOLATIONS, Preprocess
from edgevit.errors import BadFileError, InputError, UnknownNameError
from edgevit.models import hub
from edgevit.models.fusion import fuse_for_inference, input_shape
from edgevit.models.registry import TIMM_PREFIX, ModelEntry, bare_entry, find_model
from edgevit.models.torchvision_ops import import_timm
from edgevit.models.weights import fill_random, read_weights
from edgevit.recipe import PRETRAINED, RANDOM, ModelSpec

__all__ = [
    "count_macs",
    "count_parameters",
    "create_model",
    "fuse_for_inference",
    "input_shape",
    "preprocess_for",
    "resolve_model",
]

logger = logging.getLogger(__name__)

IMAGENET_CLASSES = 1000

_RESERVED_ARGS = {"img_size": "image_size", "in_chans": "channels", "num_classes": "the data"}
_LOADING_FAILED = "Error(s) in loading state_dict"


def resolve_model(name: str) -> ModelEntry:
    """The entry of any model that can be built: the registry's names and aliases, and every name of timm's.

    Raises UnknownNameError, or InputError for an unknown timm:NAME, with the nearest name.
    """
    try:
        entry = find_model(name)
    except UnknownNameError:
        entry = bare_entry(name)
        if not _timm_knows(entry):
            raise
    if name.startswith(TIMM_PREFIX) and not _timm_knows(entry):
        raise _unknown_to_timm(entry)
    return entry


def create_model(
    spec: ModelSpec, classes: int | None, *, offline: bool = False, seed: int = 0, new_head: bool = False
) -> nn.Module:
    """The model in eval mode. classes None: as many as its weights have, 1,000 for random ones.

    Where pretrained weights have another number of classes, the head is new. A file's head is replaced only with
    new_head (fine-tuning), and a warning is logged. `seed` draws what is random: a new head, or all weights.
    model.pretrained_cfg["input_size"] is (channels, height, width). Raises InputError.
    """
    entry = resolve_model(spec.name)
    config = import_timm().get_pretrained_cfg(entry.timm_name)
    arguments = _arguments(entry, spec, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.weights == RANDOM:
            arguments["num_classes"] = classes or config.num_classes or IMAGENET_CLASSES
            model: Any = _build(entry, arguments)
        elif spec.weights == PRETRAINED:
            arguments["num_classes"] = _classes_with_head(entry, classes, config.num_classes)
            model = _build_pretrained(entry, arguments, config, offline)
        else:
            model = _build_from_file(entry, arguments, Path(spec.weights), config, classes=classes, new_head=new_head)
        side = spec.image_size or config.input_size[-1]
        shape = (arguments["in_chans"], side, side)
        model.pretrained_cfg = {**model.pretrained_cfg, "input_size": shape, "state_dict": None}
        model.default_cfg = model.pretrained_cfg  # timm's older name of it, which else keeps the weights in memory
        model.eval()  # a file's weights came with a new head, in training mode
        if side != config.input_size[-1] or spec.args:
            _check_input(model, entry, shape)
        if spec.weights == RANDOM:
            fill_random(model, shape)
    built: nn.Module = model
    return built


def preprocess_for(model: nn.Module, spec: ModelSpec) -> Preprocess:
    """How timm prepares pictures for `model`, at the recipe's size and channels; the crop's share of the picture stays.

    1 channel takes grey pictures with the mean of the three colors' figures, other counts take that for every band.
    """
    timm = import_timm()
    config = timm.data.resolve_model_data_config(model)
    channels, height, width = input_shape(model)
    crop_mode, interpolation = config["crop_mode"], config["interpolation"]
    if crop_mode not in ("center", "squash") or interpolation not in INTERPOLATIONS:
        unknown = interpolation if crop_mode in ("center", "squash") else crop_mode
        raise InputError(f"Model '{spec.name}': pictures prepared by '{unknown}' are not supported.")
    resize = math.floor(min(height, width) / config["crop_pct"]) if crop_mode == "center" else None
    return Preprocess(
        height=height,
        width=width,
        channels=channels,
        resize=resize,
        crop_mode=crop_mode,
        interpolation=interpolation,
        mean=_per_channel(config["mean"], channels),
        std=_per_channel(config["std"], channels),
        color={1: "L", 3: "RGB"}.get(channels, "bands"),
    )


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, side: int) -> int:
    """Multiply-accumulates of convolutions and matrix products for one picture of `side` x `side` pixels.

    Source: torch.utils.flop_counter, which counts two operations for each.
    """
    parameter = next(model.parameters())
    picture = torch.zeros(1, input_shape(model)[0], side, side, device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(picture)
    return int(counter.get_total_flops()) // 2


def require_whole_patches(model: nn.Module, name: str, side: int) -> None:
    """Raises InputError where patches would leave an edge of a picture of side x side pixels out."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    length = max(patch) if isinstance(patch, tuple) else 1
    if side % length:
        problem = f"image_size {side} is not a multiple of its patches' {length} pixels."
        raise InputError(f"Model '{name}': {problem} The next that fits is {math.ceil(side / length) * length}.")


def _timm_knows(entry: ModelEntry) -> bool:
    timm = import_timm()
    if not timm.is_model(entry.architecture):
        return False
    return entry.tag is None or entry.timm_name in timm.list_models(f"{entry.architecture}.*", pretrained=True)


def _unknown_to_timm(entry: ModelEntry) -> InputError:
    timm = import_timm()
    if entry.tag and timm.is_model(entry.architecture):
        known = timm.list_models(f"{entry.architecture}.*", pretrained=True)
        return InputError(f"timm has no weights '{entry.timm_name}'. It has: {', '.join(known) or 'none'}.")
    nearest = get_close_matches(entry.architecture, timm.list_models(), n=1)
    suggestion = f" Did you mean '{TIMM_PREFIX}{nearest[0]}'?" if nearest else ""
    return InputError(f"timm {timm.__version__} has no architecture '{entry.architecture}'.{suggestion}")


def _arguments(entry: ModelEntry, spec: ModelSpec, config: Any) -> dict[str, Any]:
    for key, instead in _RESERVED_ARGS.items():
        if key in spec.args:
            raise InputError(f"Model '{entry.name}': args: '{key}' comes from {instead}. Remove it from args.")
    arguments = {"exportable": True, "in_chans": spec.channels or config.input_size[0], **spec.args}
    if spec.image_size and config.fixed_input_size:
        arguments["img_size"] = spec.image_size
    return arguments


def _classes_with_head(entry: ModelEntry, classes: int | None, published: int) -> int:
    if classes or published:
        return classes or published
    raise InputError(f"Model '{entry.name}' is published without a classifier. Fine-tune it first: edgevit finetune.")


def _build(entry: ModelEntry, arguments: dict[str, Any], **source: Any) -> nn.Module:
    """timm's model; an exception that is not about loading weights becomes an InputError."""
    try:
        model: nn.Module = import_timm().create_model(entry.timm_name, **arguments, **source)
    except Exception as error:  # each architecture has its own ways to refuse its arguments
        if source:
            _build(entry, arguments)  # raises when the arguments are at fault, not the weights
            raise
        wanted = ", ".join(f"{key}={value}" for key, value in arguments.items() if key != "exportable")
        raise InputError(f"Model '{entry.name}' cannot be built with {wanted}: {_reason(error)}.") from error
    return model


def _build_pretrained(entry: ModelEntry, arguments: dict[str, Any], config: Any, offline: bool) -> nn.Module:
    if not config.has_weights:
        raise InputError(f"timm has no pretrained weights of '{entry.name}'. Use --weights PATH or --weights random.")
    try:
        if not hub.may_be_cached(config):
            raise FileNotFoundError(config.url)
        with hub.without_network():
            return _build(entry, arguments, pretrained=True)
    except InputError:
        raise
    except Exception as error:  # the hub's and its HTTP library's own exceptions, which change between versions
        if _LOADING_FAILED in str(error):
            problem = f"Pretrained weights of '{entry.name}' do not fit its args: {_reason(error)}."
            raise InputError(f"{problem} Use --weights random.") from error
        if offline or hub.is_offline():
            raise _out_of_reach(entry, "offline mode forbids fetching them") from error
    host, port = hub.weights_server(config)
    if not hub.answers(host, port):
        raise _out_of_reach(entry, f"{host} cannot be reached")
    logger.info("Fetching the pretrained weights of %s from %s", entry.timm_name, host)
    try:
        return _build(entry, arguments, pretrained=True)
    except InputError:
        raise
    except Exception as error:
        raise _out_of_reach(entry, f"fetching them failed: {_reason(error)}") from error


def _out_of_reach(entry: ModelEntry, why: str) -> InputError:
    return InputError(
        f"Pretrained weights of '{entry.name}' are not on this machine and {why}. Give a file with --weights PATH, "
        "take --weights random (accuracy then means nothing), or go online."
    )


def _build_from_file(
    entry: ModelEntry, arguments: dict[str, Any], path: Path, config: Any, *, classes: int | None, new_head: bool
) -> nn.Module:
    state = read_weights(path)
    heads, stems = _names(config.classifier), _names(config.first_conv)
    head = next((state[f"{name}.weight"] for name in heads if f"{name}.weight" in state), None)
    stem = next((state[f"{name}.weight"] for name in stems if f"{name}.weight" in state), None)
    file_classes = config.num_classes if head is None else head.shape[0]
    file_channels = config.input_size[0] if stem is None or stem.ndim < 2 else stem.shape[1]
    if file_channels not in (3, arguments["in_chans"]):
        problem = f"takes {file_channels} channels, {arguments['in_chans']} are asked for."
        raise BadFileError(path, problem, fix=f"Set channels to {file_channels}.")
    wanted = _classes_with_head(entry, classes, file_classes)
    if wanted != file_classes and not new_head:
        problem = f"has {file_classes} classes, {wanted} are asked for."
        raise BadFileError(path, problem, fix="Fine-tune it on this data first: edgevit finetune.")
    source = {"num_classes": file_classes, "input_size": (file_channels, *config.input_size[1:]), "label_offset": 0}
    try:
        overlay = {**source, "state_dict": state}
        given = {**arguments, "num_classes": file_classes}
        model: Any = _build(entry, given, pretrained=True, pretrained_cfg_overlay=overlay)
    except InputError:
        raise
    except Exception as error:  # a foreign layout fails anywhere in timm's conversion
        problem = f"does not hold weights of '{entry.name}' as asked for: {_reason(error)}."
        raise BadFileError(path, problem, fix="Name the model that it was saved from.") from error
    if wanted != file_classes:
        logger.warning("%s: its head of %d classes is replaced by a new one of %d", path, file_classes, wanted)
        model.reset_classifier(wanted)
    built: nn.Module = model
    return built


def _check_input(model: nn.Module, entry: ModelEntry, shape: tuple[int, int, int]) -> None:
    side = shape[1]
    require_whole_patches(model, entry.name, side)
    trial = copy.deepcopy(model)  # LeViT and its kin keep the attention biases of their first run in eval mode
    try:
        with torch.no_grad():
            trial(torch.zeros(1, *shape))
    except Exception as error:  # each architecture has its own ways to refuse a size
        advice = "Use its native size or a multiple of 32."
        raise InputError(f"Model '{entry.name}' does not take image_size {side}: {_reason(error)}. {advice}") from error


def _names(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _per_channel(figures: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(figures) == channels:
        return tuple(figures)
    return (sum(figures) / len(figures),) * channels


def _reason(error: Exception) -> str:
    """The first telling line of a foreign exception, at most 160 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    telling = lines[1] if len(lines) > 1 and _LOADING_FAILED in lines[0] else lines[0]
    return telling[:160].rstrip(". ")
