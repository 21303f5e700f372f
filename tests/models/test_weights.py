import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgevit.errors import BadFileError
from edgevit.models.weights import fill_random, random_pictures, read_weights, weights_file

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}
LARGE = {"layer.weight": torch.zeros(100, 100)}


class Bomb:
    """A pickle that touches a file when it is loaded."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_safetensors_are_read_from_a_file_and_from_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(STATE, file)
    assert same(read_weights(file), STATE)
    assert same(read_weights(str(tmp_path)), STATE)
    assert weights_file(tmp_path) == file


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_ema"])
def test_a_pickle_of_tensors_is_read_also_when_wrapped(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    file = tmp_path / f"weights{suffix}"
    torch.save({wrapper: STATE, "epoch": 3} if wrapper else STATE, file)
    assert same(read_weights(file), STATE)


def test_prefixes_of_parallel_and_compiled_training_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()}, file)
    assert same(read_weights(file), STATE)


@pytest.mark.parametrize("protocol", [None, 0, 2, 4, 5])
def test_a_pickle_that_would_execute_code_is_refused_and_executes_nothing(tmp_path: Path, protocol: int | None) -> None:
    file, victim = tmp_path / "evil.pth", tmp_path / "victim"
    if protocol is None:
        torch.save({"state_dict": Bomb(victim)}, file)
    else:
        file.write_bytes(pickle.dumps(Bomb(victim), protocol))
    with pytest.raises(BadFileError) as caught:
        read_weights(file)
    assert not victim.exists()
    message = "is a pickle that could run code when loaded: refused. Save its state_dict as .safetensors"
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def save_old_pth(state: dict[str, torch.Tensor], file: Path) -> None:
    torch.save(state, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("length", [1, 100, 500, 1000])
@pytest.mark.parametrize(
    ("save", "name", "kind"),
    [
        (torch.save, "cut.pth", "PyTorch weights"),
        (save_old_pth, "old.pth", "PyTorch weights"),
        (save_file, "cut.safetensors", "safetensors file"),
    ],
)
def test_a_truncated_file_is_refused_in_one_line(
    tmp_path: Path, save: Callable[[Any, Path], None], name: str, kind: str, length: int
) -> None:
    file = tmp_path / name
    save(LARGE, file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(BadFileError) as caught:
        read_weights(file)
    assert str(caught.value).startswith(f"{file}: is not a whole ")
    assert kind in str(caught.value)
    assert str(caught.value).endswith("Copy or download it again.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["empty.pth", "empty.safetensors", "noise.pth", "noise.safetensors"])
def test_an_empty_or_foreign_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"" if name.startswith("empty") else b"\x89PNG not weights at all" * 40)
    with pytest.raises(BadFileError, match="is not a whole") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_a_torchscript_archive_is_no_weights_file(tmp_path: Path) -> None:
    file = tmp_path / "scripted.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.trace
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)
    with pytest.raises(BadFileError, match=r"scripted\.pt: is not a whole file of PyTorch weights"):
        read_weights(file)


@pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {"a": 1}}, {1: torch.ones(1)}, torch.ones(2)])
def test_a_pickle_without_a_state_dict_says_so(tmp_path: Path, content: object) -> None:
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    with pytest.raises(BadFileError, match=r"weights\.pth: holds no state_dict: tensors by name\. Save"):
        read_weights(file)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"nowhere\.pth: does not exist\. Name a checkpoint directory"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(BadFileError, match=r"has no model\.safetensors\. Name a checkpoint directory"):
        read_weights(tmp_path)
    (tmp_path / "weights.h5").touch()
    with pytest.raises(BadFileError, match=r"'\.h5' is no suffix of weights; known are \.safetensors, \.pth"):
        read_weights(tmp_path / "weights.h5")


@pytest.mark.parametrize("name", ["closed.pth", "closed.safetensors"])
def test_an_unreadable_file_gives_the_systems_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).touch()
    monkeypatch.setattr("torch.load", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    with pytest.raises(BadFileError, match=rf"{name}: cannot be read: Permission denied\."):
        read_weights(tmp_path / name)


def test_no_branch_stays_idle_and_other_values_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    with torch.no_grad():
        model[0].bias.zero_()
        model[1].weight.zero_()
        model[2].weight.fill_(1e-6)
        model[3].weight.fill_(1.0)
    kept = model[0].weight.clone()
    fill_random(model, (3, 8, 8))
    assert torch.equal(model[0].weight, kept)
    assert torch.equal(model[3].weight, torch.ones(4))
    assert bool(((model[1].weight >= 0.1) & (model[1].weight <= 0.3)).all())
    assert all(float(tensor.detach().std()) > 1e-3 for tensor in (model[0].bias, model[1].bias, model[2].weight))


def test_batchnorm_leaves_smooth_pictures_near_unit_scale() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    with torch.no_grad():
        model[0].weight.mul_(100.0)
    fill_random(model, (3, 32, 32))
    assert not model.training
    assert model[1].momentum == 0.1
    with torch.no_grad():
        assert 0.3 < float(model(random_pictures(16, (3, 32, 32))).std()) < 3.0


def test_a_channel_that_never_moves_is_not_blown_up() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 1e-12]).reshape(2, 1, 1, 1))
        model[0].bias.fill_(2.0)
    fill_random(model, (1, 8, 8))
    assert float(model[1].running_var[1]) > 1e-2  # 1 % of a mean square that is above 2 * 2 / 2


def test_a_model_without_batchnorm_needs_no_pictures() -> None:
    model = nn.Linear(2, 2)
    fill_random(model, (3, 8, 8))
    assert bool(model.weight.isfinite().all())
