# ruff: noqa: E501 (a table: one record a line)
"""The models that edgevit knows by name: one line each. Any other timm architecture works as timm:NAME.

`name` is timm's architecture name; where edgevit takes other weights than timm's first, they follow after a dot.
Parameters and MACs are those of the training form with timm's own head (1,000 classes, none where top-1 is None), at
the native size, counted with torch.utils.flop_counter: one MAC is one multiply and one add of a convolution or a
matrix product. tests/test_registry.py counts them again. Top-1 is ImageNet-1k's, at the native size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgevit.errors import UnknownNameError

Kind = Literal["transformer", "hybrid", "cnn"]

TIMM_PREFIX = "timm:"
TIMM_RESULTS = "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv"


@dataclass(frozen=True)
class ModelEntry:
    """`params_m` in millions, `gmacs` in billions per picture of `image_size` pixels a side.

    tag: timm's name of the pretrained weights. top1: percent, None for a backbone published without a classifier.
    Every figure is None for a model that is not in the registry.
    """

    name: str
    alias: str | None
    family: str
    kind: Kind | None
    params_m: float | None
    gmacs: float | None
    image_size: int | None
    tag: str | None
    top1: float | None
    note: str

    @property
    def architecture(self) -> str:
        """timm's architecture name, without prefix and tag."""
        return self.name.removeprefix(TIMM_PREFIX).partition(".")[0]

    @property
    def timm_name(self) -> str:
        """What timm.create_model takes: the architecture, with the tag of its weights."""
        return f"{self.architecture}.{self.tag}" if self.tag else self.architecture

    @property
    def top1_source(self) -> str | None:
        """The address of the table that `top1` is taken from, row `timm_name`."""
        return None if self.top1 is None else TIMM_RESULTS


def find_model(name: str) -> ModelEntry:
    """The entry of a registry name or an alias; a bare one for timm:NAME, which only timm can check.

    Raises UnknownNameError. models.resolve_model also knows timm's names without the prefix.
    """
    entry = _BY_NAME.get(name) or _BY_ALIAS.get(_plain(name))
    if entry is not None:
        return entry
    if name.startswith(TIMM_PREFIX) and name != TIMM_PREFIX:
        return bare_entry(name)
    raise UnknownNameError("model", name, _BY_NAME, "edgevit models", also=_BY_ALIAS)


def bare_entry(name: str) -> ModelEntry:
    """The entry of a model that the registry does not list: timm:ARCHITECTURE, with or without .TAG."""
    tag = name.removeprefix(TIMM_PREFIX).partition(".")[2] or None
    return ModelEntry(name, None, "timm", None, None, None, None, tag, None, "not in the registry")


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


_RESHAPES = "shifted windows: many reshapes and transposes"
_FUSED = "reparameterized before export"
_PLAIN = "plain ViT: nearly all time is in large matrix products"
_UNFOLD = "unfolds feature maps into patches: many reshapes and transposes"
_SEPARABLE = "separable attention in linear time, still unfolds patches"

# fmt: off
# name, alias, family, kind, params_m, gmacs, image_size, tag, top1, note
MODELS = (
    ModelEntry("vit_tiny_patch16_224", "vit-ti", "ViT", "transformer", 5.717, 1.254, 224, "augreg_in21k_ft_in1k", 75.452, _PLAIN),
    ModelEntry("vit_small_patch16_224", "vit-s", "ViT", "transformer", 22.051, 4.599, 224, "augreg_in21k_ft_in1k", 81.402, _PLAIN),
    ModelEntry("deit_tiny_patch16_224", "deit-ti", "DeiT", "transformer", 5.717, 1.254, 224, "fb_in1k", 72.190, _PLAIN),
    ModelEntry("deit_tiny_distilled_patch16_224", "deit-ti-distilled", "DeiT", "transformer", 5.911, 1.261, 224, "fb_in1k", 74.538, "two heads, averaged; takes a teacher through its own token"),
    ModelEntry("deit_small_patch16_224", "deit-s", "DeiT", "transformer", 22.051, 4.599, 224, "fb_in1k", 79.856, _PLAIN),
    ModelEntry("deit3_small_patch16_224", "deit3-s", "DeiT III", "transformer", 22.059, 4.599, 224, "fb_in1k", 81.382, "plain ViT with layer scale"),
    ModelEntry("mobilevit_xxs", "mobilevit-xxs", "MobileViT", "hybrid", 1.272, 0.407, 256, "cvnets_in1k", 68.936, _UNFOLD),
    ModelEntry("mobilevit_xs", "mobilevit-xs", "MobileViT", "hybrid", 2.318, 1.026, 256, "cvnets_in1k", 74.618, _UNFOLD),
    ModelEntry("mobilevit_s", "mobilevit-s", "MobileViT", "hybrid", 5.579, 2.001, 256, "cvnets_in1k", 78.298, _UNFOLD),
    ModelEntry("mobilevitv2_050", "mobilevitv2-0.5", "MobileViTv2", "hybrid", 1.371, 0.465, 256, "cvnets_in1k", 70.156, _SEPARABLE),
    ModelEntry("mobilevitv2_075", "mobilevitv2-0.75", "MobileViTv2", "hybrid", 2.866, 1.028, 256, "cvnets_in1k", 75.612, _SEPARABLE),
    ModelEntry("mobilevitv2_100", "mobilevitv2-1.0", "MobileViTv2", "hybrid", 4.902, 1.812, 256, "cvnets_in1k", 78.088, _SEPARABLE),
    ModelEntry("efficientvit_m0", "efficientvit-m0", "EfficientViT (MSRA)", "hybrid", 2.349, 0.079, 224, "r224_in1k", 63.304, f"{_FUSED}; small operators, so overhead counts"),
    ModelEntry("efficientvit_m2", "efficientvit-m2", "EfficientViT (MSRA)", "hybrid", 4.188, 0.201, 224, "r224_in1k", 70.796, f"{_FUSED}; small operators, so overhead counts"),
    ModelEntry("efficientvit_m5", "efficientvit-m5", "EfficientViT (MSRA)", "hybrid", 12.474, 0.522, 224, "r224_in1k", 77.092, f"{_FUSED}; small operators, so overhead counts"),
    ModelEntry("efficientvit_b0", "efficientvit-b0", "EfficientViT (MIT)", "hybrid", 3.410, 0.100, 224, "r224_in1k", 71.408, "ReLU linear attention: no softmax"),
    ModelEntry("efficientvit_b1", "efficientvit-b1", "EfficientViT (MIT)", "hybrid", 9.102, 0.519, 224, "r224_in1k", 79.254, "ReLU linear attention: no softmax"),
    ModelEntry("fastvit_t8", "fastvit-t8", "FastViT", "hybrid", 4.026, 0.690, 256, "apple_in1k", 76.184, _FUSED),
    ModelEntry("fastvit_t12", "fastvit-t12", "FastViT", "hybrid", 7.554, 1.398, 256, "apple_in1k", 79.276, _FUSED),
    ModelEntry("efficientformerv2_s0", "efficientformerv2-s0", "EfficientFormerV2", "hybrid", 3.600, 0.396, 224, "snap_dist_in1k", 76.102, "two heads, averaged; attention only in the last two stages"),
    ModelEntry("tiny_vit_5m_224", "tinyvit-5m", "TinyViT", "hybrid", 5.393, 1.255, 224, "dist_in22k_ft_in1k", 80.874, f"windows without shifts; {_FUSED}"),
    ModelEntry("levit_128s", "levit-128s", "LeViT", "hybrid", 7.777, 0.305, 224, "fb_dist_in1k", 76.520, f"two heads, averaged; {_FUSED}"),
    ModelEntry("edgenext_xx_small", "edgenext-xxs", "EdgeNeXt", "hybrid", 1.327, 0.258, 256, "in1k", 71.132, "attention across channels, large depthwise kernels"),
    ModelEntry("edgenext_x_small", "edgenext-xs", "EdgeNeXt", "hybrid", 2.337, 0.533, 256, "in1k", 74.874, "attention across channels, large depthwise kernels"),
    ModelEntry("swiftformer_xs", "swiftformer-xs", "SwiftFormer", "hybrid", 3.475, 0.603, 224, "dist_in1k", 75.600, "two heads, averaged; additive attention in linear time"),
    ModelEntry("repvit_m0_9", "repvit-m0.9", "RepViT", "cnn", 5.489, 0.817, 224, "dist_300e_in1k", 78.652, f"a CNN in ViT's layout; two heads, averaged; {_FUSED}"),
    ModelEntry("mobileone_s0", "mobileone-s0", "MobileOne", "cnn", 5.293, 1.052, 224, "apple_in1k", 71.398, f"{_FUSED}: two fifths of the parameters remain"),
    ModelEntry("swin_tiny_patch4_window7_224", "swin-tiny", "Swin", "transformer", 28.288, 4.491, 224, "ms_in1k", 81.388, _RESHAPES),
    ModelEntry("beit_base_patch16_224", "beit-b", "BEiT", "transformer", 86.531, 17.564, 224, "in22k_ft_in22k_in1k", 85.238, "large: relative position bias is added in each block"),
    ModelEntry("vit_base_patch16_224.mae", "mae-b", "MAE", "transformer", 85.799, 17.563, 224, "mae", None, "large backbone without a classifier: fine-tune it first"),
    ModelEntry("vit_small_patch14_dinov2", "dinov2-s", "DINOv2", "transformer", 22.056, 46.697, 518, "lvd142m", None, "backbone without a classifier: fine-tune it first, at 224 (about an eighth of the MACs)"),
    ModelEntry("mobilenetv3_large_100", "mobilenetv3-l", "MobileNetV3", "cnn", 5.483, 0.217, 224, "ra_in1k", 75.784, "hard-swish and squeeze-excite: INT8 costs accuracy"),
    ModelEntry("mobilenetv4_conv_small", "mobilenetv4-s", "MobileNetV4", "cnn", 3.774, 0.186, 224, "e2400_r224_in1k", 73.756, "ReLU only: made for INT8"),
    ModelEntry("mobilenetv4_hybrid_medium", "mobilenetv4-hybrid-m", "MobileNetV4", "hybrid", 11.075, 1.271, 256, "e200_r256_in12k_ft_in1k", 82.360, "the smallest hybrid with published weights"),
    ModelEntry("efficientnet_lite0", "efficientnet-lite0", "EfficientNet-Lite", "cnn", 4.652, 0.385, 224, "ra_in1k", 75.488, "ReLU6, no squeeze-excite: made for INT8"),
    ModelEntry("resnet50", None, "ResNet", "cnn", 25.557, 4.089, 224, "a1_in1k", 80.382, "the yardstick: every runtime is tuned for it"),
    ModelEntry("convnext_tiny", "convnext-t", "ConvNeXt", "cnn", 28.589, 4.456, 224, "in12k_ft_in1k", 84.192, "7x7 depthwise kernels and LayerNorm"),
)
# fmt: on

_BY_NAME = {entry.name: entry for entry in MODELS}
_BY_ALIAS = {_plain(alias): entry for entry in MODELS for alias in (entry.alias, entry.name) if alias}
