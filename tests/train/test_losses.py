from __future__ import annotations

import math

import pytest
import torch

from edgevit.errors import ShapeMismatchError
from edgevit.recipe import DistillSpec, ModelSpec
from edgevit.train.losses import distillation_loss, hard_teacher_loss, label_loss, soft_teacher_loss

TEACHER = ModelSpec(name="timm:resnet18")
LN2, LN3 = math.log(2.0), math.log(3.0)
# logits whose softmax is (3/4, 1/4) and (1/4, 3/4)
FIRST = torch.tensor([[LN3, 0.0]])
SECOND = torch.tensor([[0.0, LN3]])


def test_label_loss_is_minus_the_log_of_the_labels_probability() -> None:
    assert label_loss(FIRST, torch.tensor([0])).item() == pytest.approx(-math.log(0.75))
    assert label_loss(FIRST, torch.tensor([1])).item() == pytest.approx(-math.log(0.25))


def test_label_loss_is_the_mean_over_the_batch() -> None:
    both = label_loss(torch.cat([FIRST, FIRST]), torch.tensor([0, 1])).item()
    assert both == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    # target (0.9, 0.1) for smoothing 0.2 over two classes
    expected = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    assert label_loss(FIRST, torch.tensor([0]), smoothing=0.2).item() == pytest.approx(expected)


def test_hard_distillation_learns_the_teachers_class_and_not_its_confidence() -> None:
    sure, hardly_sure = torch.tensor([[0.0, 50.0]]), torch.tensor([[0.0, 0.01]])
    assert hard_teacher_loss(FIRST, sure).item() == pytest.approx(-math.log(0.25))
    assert hard_teacher_loss(FIRST, hardly_sure).item() == pytest.approx(-math.log(0.25))


def test_soft_distillation_is_zero_for_equal_logits() -> None:
    assert soft_teacher_loss(FIRST, FIRST, temperature=3.0).item() == pytest.approx(0.0, abs=1e-7)


def test_soft_distillation_at_temperature_one_is_the_divergence() -> None:
    # KL((1/4, 3/4) || (3/4, 1/4)) = 1/4 ln(1/3) + 3/4 ln 3 = 1/2 ln 3
    assert soft_teacher_loss(FIRST, SECOND, temperature=1.0).item() == pytest.approx(LN3 / 2)


def test_soft_distillation_softens_both_and_multiplies_by_the_squared_temperature() -> None:
    # logits 2 ln 3 at temperature 2 are the logits ln 3 at temperature 1
    assert soft_teacher_loss(2 * FIRST, 2 * SECOND, temperature=2.0).item() == pytest.approx(4 * LN3 / 2)


def test_soft_distillation_survives_a_teacher_that_is_certain() -> None:
    certain = torch.tensor([[0.0, 1000.0]])
    assert soft_teacher_loss(torch.zeros(1, 2), certain, temperature=1.0).item() == pytest.approx(LN2)


def test_alpha_weighs_the_teachers_part() -> None:
    spec = DistillSpec(teacher=TEACHER, mode="hard", alpha=0.25)
    loss = distillation_loss(FIRST, SECOND, torch.tensor([0]), spec)
    assert loss.item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, -math.log(0.75)), (1.0, 4.0 * 0.5 * LN3)])
def test_alpha_at_its_ends_leaves_one_part_only(alpha: float, expected: float) -> None:
    spec = DistillSpec(teacher=TEACHER, mode="soft", alpha=alpha, temperature=2.0)
    output = (FIRST, 2 * FIRST)
    assert distillation_loss(output, 2 * SECOND, torch.tensor([0]), spec).item() == pytest.approx(expected)


def test_the_labels_teach_the_class_head_and_the_teacher_the_distillation_head() -> None:
    class_head, distillation_head = FIRST.clone().requires_grad_(), FIRST.clone().requires_grad_()
    spec = DistillSpec(teacher=TEACHER, mode="hard", alpha=0.5)
    loss = distillation_loss((class_head, distillation_head), SECOND, torch.tensor([0]), spec, smoothing=0.2)
    smoothed = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    assert loss.item() == pytest.approx(0.5 * smoothed - 0.5 * math.log(0.25))
    loss.backward()
    # gradient of cross entropy: softmax minus target, times the part's weight
    torch.testing.assert_close(class_head.grad, 0.5 * torch.tensor([[0.75 - 0.9, 0.25 - 0.1]]))
    torch.testing.assert_close(distillation_head.grad, 0.5 * torch.tensor([[0.75, 0.25 - 1.0]]))


def test_a_teacher_of_other_classes_is_refused() -> None:
    spec = DistillSpec(teacher=TEACHER)
    with pytest.raises(
        ShapeMismatchError, match=r"teacher knows 1000 classes and the student 2\. Fine-tune the teacher"
    ):
        distillation_loss(FIRST, torch.zeros(1, 1000), torch.tensor([0]), spec)
