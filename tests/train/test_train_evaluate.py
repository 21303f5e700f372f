from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgevit.board.preprocess import Preprocess
from edgevit.data.pictures import from_arrays
from edgevit.train.evaluate import logits_loss_and_top1, loss_and_top1, torch_run

GRAY = Preprocess(4, 4, 1, None, "squash", "bilinear", (0.0,), (1.0,), "L")
LN3 = math.log(3.0)


class Brightness(nn.Module):
    """Two logits: 0 and ln 3 times the picture's mean, so that a white picture is class 1 with probability 3/4."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.0, LN3]))
        self.dropout = nn.Dropout(0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.dropout(pixels.mean(dim=(1, 2, 3)).unsqueeze(1) * self.scale)
        return logits


def test_a_run_gives_float32_logits_without_dropout() -> None:
    pixels = np.ones((3, 1, 4, 4), np.float32)
    logits = torch_run(Brightness().train())(pixels)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, [[0.0, LN3]] * 3, rtol=1e-6)


@pytest.mark.parametrize("mode", [True, False])
def test_a_run_leaves_the_model_in_the_mode_it_was_in(mode: bool) -> None:
    model = Brightness().train(mode)
    torch_run(model)(np.ones((1, 1, 4, 4), np.float32))
    assert model.training is mode
    assert model.dropout.training is mode


def test_a_run_takes_pixels_that_lie_in_another_order() -> None:
    pixels = np.moveaxis(np.arange(32, dtype=np.float32).reshape(2, 4, 4, 1), 3, 1)
    np.testing.assert_allclose(torch_run(Brightness())(pixels)[:, 1], [7.5 * LN3, 23.5 * LN3], rtol=1e-6)


def test_loss_is_the_mean_over_all_pictures_and_top1_a_percentage() -> None:
    white = np.full((4, 4, 4), 255, np.uint8)
    loss, top1 = loss_and_top1(Brightness(), from_arrays(white, [1, 1, 1, 0]), GRAY)
    assert loss == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)
    assert top1 == 75.0


def test_one_logit_that_is_not_a_number_makes_the_loss_so() -> None:
    loss, _ = logits_loss_and_top1(np.array([[0.0, math.nan], [1.0, 0.0]], np.float32), np.array([0, 0]))
    assert math.isnan(loss)
