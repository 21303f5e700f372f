import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgevit.errors import ParityError
from edgevit.models.create import create_model
from edgevit.models.fusion import fuse_for_inference, input_shape, relative_difference
from edgevit.models.weights import random_pictures
from edgevit.recipe import ModelSpec


class Foldable(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3)) * self.gain

    def fuse(self) -> nn.Module:
        return Foldable(self.gain.item() * self.wrong_by)

    wrong_by = 1.0


class Wrapped(nn.Sequential):
    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.pretrained_cfg = {"architecture": "wrapped", "input_size": (3, 8, 8)}


@pytest.mark.parametrize(
    ("name", "side"),
    [("efficientvit_m0", 128), ("fastvit_t8", 64), ("levit_128s", 64), ("repvit_m0_9", 64), ("mobileone_s0", 64)],
)
def test_a_fused_model_is_smaller_and_says_the_same(name: str, side: int) -> None:
    model = create_model(ModelSpec(name=name, image_size=side, weights="random"), 10)
    fused = fuse_for_inference(model)
    pictures = random_pictures(3, (3, side, side), torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected, actual = model(pictures), fused(pictures)
    assert relative_difference(expected, actual) < 1e-4
    assert float(expected.std()) > 1e-3
    assert batchnorms(fused) < batchnorms(model)
    assert sum(map(torch.numel, fused.parameters())) < sum(map(torch.numel, model.parameters()))
    assert not any(module.training for module in fused.modules())


def batchnorms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def test_fusing_leaves_the_original_alone() -> None:
    model = create_model(ModelSpec(name="efficientvit_m0", image_size=64, weights="random"), 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fuse_for_inference(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_wrong_fold_fails_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Wrapped(Foldable(2.0))
    assert input_shape(fuse_for_inference(model)) == (3, 8, 8)
    monkeypatch.setattr(Foldable, "wrong_by", 1.5)
    with pytest.raises(ParityError) as caught:
        fuse_for_inference(model)
    assert str(caught.value).startswith(
        "Fusing wrapped changed its logits by 5.0e-01 of the largest one; at most 1e-03"
    )
    assert caught.value.exit_code == 4


def test_a_fold_that_gives_nan_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Foldable, "wrong_by", float("nan"))
    with pytest.raises(ParityError, match="by nan of the largest"):
        fuse_for_inference(Wrapped(Foldable(2.0)))


def test_the_relative_difference_is_of_the_largest_value() -> None:
    zeros = torch.zeros(2)
    assert relative_difference(torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0])) == 0.25
    assert relative_difference(zeros, zeros) == 0.0
    assert relative_difference(zeros, torch.tensor([0.0, 0.5])) == 0.5
