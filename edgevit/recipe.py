"""Recipe: what to make. The types of a recipe file, frozen and validated."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from edgevit.schema import Record

Precision = Literal["auto", "fp32", "fp16", "int8-dynamic", "int8-static", "mixed"]
RuntimeName = Literal["onnxruntime", "openvino", "litert", "executorch", "tensorrt", "torchscript"]
AUTO: Literal["auto"] = "auto"
RuntimeChoice = Literal["auto", RuntimeName]
SEARCHED_RUNTIMES: tuple[RuntimeName, ...] = ("onnxruntime", "openvino", "litert")  # with more than fp32 to choose from
Calibrator = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]

PRETRAINED = "pretrained"
RANDOM = "random"


class ModelSpec(Record):
    """`name`: a registry name, or timm:NAME. `args`: passed to timm.create_model as they are.

    weights: 'pretrained', 'random', or the path of a checkpoint.
    """

    name: str
    args: dict[str, Any] = {}
    image_size: PositiveInt | None = None
    channels: PositiveInt | None = None
    weights: str = PRETRAINED


class DataSpec(Record):
    """`source`: a named dataset or a folder of class folders. `val_fraction`: used where there is no val split.

    `seed` draws the splits: who evaluates later must give the same one.

    train_limit and eval_limit take a stratified subset, drawn with `seed`.
    """

    source: str
    seed: NonNegativeInt = 0
    val_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.1
    train_limit: PositiveInt | None = None
    eval_limit: PositiveInt | None = None


def split_as_trained(source: str, trained_on: DataSpec | None) -> DataSpec:
    """How to split `source` so that its test pictures are those that the training on it never saw.

    trained_on: what the checkpoint or bundle recorded; of another source it says nothing.
    """
    if trained_on is None or trained_on.source != source:
        return DataSpec(source=source)
    return trained_on.model_copy(update={"train_limit": None, "eval_limit": None})


class AugmentSpec(Record):
    """timm's training transform. `scale`: the range of the random crop's area; `auto_augment`: timm's own notation."""

    scale: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.3333)
    hflip: Fraction = 0.5
    color_jitter: NonNegativeFloat = 0.0
    auto_augment: str | None = None
    erasing: Fraction = 0.0


class TrainSpec(Record):
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 5e-4
    weight_decay: NonNegativeFloat = 0.05
    warmup_epochs: NonNegativeInt = 1
    label_smoothing: Fraction = 0.1
    clip_grad_norm: PositiveFloat | None = 1.0
    drop_path: Fraction = 0.0
    augment: AugmentSpec = AugmentSpec()
    seed: NonNegativeInt = 0
    workers: NonNegativeInt = 0


class DistillSpec(Record):
    """`mode`: 'hard' (the teacher's class, DeiT) or 'soft' (KL at `temperature`); `alpha` weighs the teacher's part."""

    teacher: ModelSpec
    mode: Literal["hard", "soft"] = "hard"
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    temperature: PositiveFloat = 3.0


class ExportSpec(Record):
    precision: Precision = "auto"
    runtime: RuntimeChoice = AUTO
    opset: Annotated[int, Field(ge=17, le=23)] = 18
    dynamic_batch: bool = False
    calibrator: Calibrator | Literal["auto"] = "auto"
    calibration_images: PositiveInt = 128


class Budget(Record):
    """What the shipped artifact may cost. `max_drop`: top-1 points below fp32; None leaves a limit open."""

    max_drop: NonNegativeFloat | None = 1.0
    max_latency_ms: PositiveFloat | None = None
    max_size_mib: PositiveFloat | None = None


class ParityThresholds(Record):
    """The least that two neighbouring hops must share: `exact` for float hops, `int8` after quantization."""

    exact_cosine: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9999
    exact_top1_agreement: Annotated[float, Field(ge=0.0, le=1.0)] = 0.99
    int8_cosine: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    int8_top1_agreement: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9


class Recipe(Record):
    name: Name
    model: ModelSpec
    data: DataSpec
    device: str = "local"
    train: TrainSpec = TrainSpec()
    distill: DistillSpec | None = None
    export: ExportSpec = ExportSpec()
    budget: Budget = Budget()
    parity: ParityThresholds = ParityThresholds()
    threads: PositiveInt | None = None

    @field_validator("threads")
    @classmethod
    def _sane_threads(cls, value: int | None) -> int | None:
        if value is not None and value > 1024:
            raise ValueError("more than 1024 threads")
        return value
