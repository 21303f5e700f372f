"""What training minimizes: cross entropy against the labels, and against a teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgevit.errors import ShapeMismatchError
from edgevit.recipe import DistillSpec


def label_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean label-smoothed cross entropy in nats, a scalar.

    logits: float (N, classes). labels: int64 (N,). smoothing: the share of the target spread over all classes.
    Source: Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7.
    """
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def hard_teacher_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean cross entropy in nats against the teacher's most likely class, a scalar.

    logits, teacher_logits: float (N, classes), same pictures in the same order.
    Source: Touvron et al. 2021, "Training data-efficient image transformers", equation 3.
    """
    return functional.cross_entropy(logits, teacher_logits.argmax(dim=1))


def soft_teacher_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² times the mean KL divergence of student from teacher, both softened by T = `temperature`, a scalar in nats.

    logits, teacher_logits: float (N, classes), same pictures in the same order. Equal logits give 0.
    T² keeps the gradient's size independent of T.
    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def distillation_loss(
    output: Tensor | tuple[Tensor, Tensor],
    teacher_logits: Tensor,
    labels: Tensor,
    spec: DistillSpec,
    smoothing: float = 0.0,
) -> Tensor:
    """(1 - alpha) * label loss + alpha * the teacher's part, a scalar in nats.

    output: logits (N, classes), or a pair (class head, distillation head) of them: the labels teach the first, the
    teacher teaches the second. teacher_logits: (N, classes). labels: int64 (N,).
    Raises ShapeMismatchError when student and teacher know different numbers of classes.
    Source: Touvron et al. 2021, equations 2 and 3, with alpha for their lambda and for their one half.
    """
    class_logits, teacher_head_logits = output if isinstance(output, tuple) else (output, output)
    if teacher_head_logits.shape != teacher_logits.shape:
        raise ShapeMismatchError(
            f"The teacher knows {teacher_logits.shape[1]} classes and the student {teacher_head_logits.shape[1]}. "
            "Fine-tune the teacher on the same data first, and give its checkpoint as the teacher's weights."
        )
    if spec.mode == "hard":
        teachers_part = hard_teacher_loss(teacher_head_logits, teacher_logits)
    else:
        teachers_part = soft_teacher_loss(teacher_head_logits, teacher_logits, spec.temperature)
    return (1.0 - spec.alpha) * label_loss(class_logits, labels, smoothing) + spec.alpha * teachers_part
