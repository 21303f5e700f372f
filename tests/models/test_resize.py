from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import CLASSES, VIT, VIT_TOKENS, vit_model
from torch import nn

from edgevit.errors import InputError
from edgevit.models.create import create_model
from edgevit.models.fusion import input_shape
from edgevit.models.resize import resize_model
from edgevit.recipe import ModelSpec

PATCHES, CHANNELS = 4, 32  # a side of the tiny ViT's grid, and its width


def logits(model: nn.Module, side: int, channels: int = 1) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0)))
    return result


@pytest.mark.parametrize("side", [16, 48, 64])
def test_a_vits_positions_are_interpolated_and_its_class_tokens_is_not(side: int) -> None:
    model: Any = vit_model()
    resized: Any = resize_model(model, side)
    grid = model.pos_embed[:, 1:].reshape(1, PATCHES, PATCHES, CHANNELS).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(grid, size=(side // 8, side // 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(resized.pos_embed[:, 1:], wanted.flatten(2).transpose(1, 2))
    torch.testing.assert_close(resized.pos_embed[:, :1], model.pos_embed[:, :1])
    assert logits(resized, side).shape == (2, CLASSES)
    assert input_shape(resized) == (1, side, side)


def test_all_other_weights_of_a_vit_are_the_same_and_the_given_model_is_as_it_was() -> None:
    model: Any = vit_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    resized = resize_model(model, 64)
    assert input_shape(model) == (1, 32, 32)
    assert model.pos_embed.shape == (1, VIT_TOKENS, CHANNELS)
    for name, value in model.state_dict().items():
        assert value.equal(before[name])
        assert name == "pos_embed" or value.equal(resized.state_dict()[name])


def test_the_own_size_gives_the_same_logits() -> None:
    torch.testing.assert_close(logits(resize_model(vit_model(), 32), 32), logits(vit_model(), 32))


def test_a_mobilevit_has_no_positions_and_keeps_every_weight() -> None:
    model = create_model(ModelSpec(name="timm:mobilevit_xxs", image_size=64, weights="random"), CLASSES).eval()
    resized = resize_model(model, 96)
    assert model.state_dict().keys() == resized.state_dict().keys()
    assert all(value.equal(resized.state_dict()[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(logits(resized, 96, 3), logits(model, 96, 3))
    assert input_shape(resized) == (3, 96, 96)


def test_a_resized_model_infers_even_if_the_given_one_was_training() -> None:
    model = create_model(VIT, CLASSES).train()
    assert not any(module.training for module in resize_model(model, 64).modules())
    assert model.training


def test_a_size_that_the_patches_do_not_fill_is_refused() -> None:
    words = r"^Model 'vit_tiny_patch16_224': image_size 36 is not a multiple .* The next that fits is 40\.$"
    with pytest.raises(InputError, match=words):
        resize_model(vit_model(), 36)


def test_a_size_that_the_layers_refuse_is_refused_with_their_reason() -> None:
    class Narrow(Fixed):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if pixels.shape[-1] > 8:
                raise RuntimeError("the kernel\n is too  small.")
            result: torch.Tensor = super().forward(pixels)
            return result

    with pytest.raises(InputError) as caught:
        resize_model(Narrow(False), 16)
    advice = "Use its native size or a multiple of 32."
    assert str(caught.value) == f"Model 'fixed' does not take image size 16: the kernel is too small. {advice}"


class Fixed(nn.Sequential):
    """A model that timm knows to be made for one size, without saying so when it is run."""

    def __init__(self, is_fixed: bool) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
        self.pretrained_cfg = {"architecture": "fixed", "input_size": (3, 8, 8), "fixed_input_size": is_fixed}


def test_attention_made_for_one_size_takes_no_other() -> None:
    with pytest.raises(InputError, match=r"^Model 'fixed' does not take image size 16: its attention is made for one"):
        resize_model(Fixed(True), 16)
    assert input_shape(resize_model(Fixed(True), 8)) == (3, 8, 8)
    assert input_shape(resize_model(Fixed(False), 16)) == (3, 16, 16)
