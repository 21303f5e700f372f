import subprocess
import sys

import pytest
import torch

from edgevit.errors import UnknownNameError
from edgevit.models.create import count_macs, count_parameters
from edgevit.models.registry import MODELS, ModelEntry, find_model
from edgevit.models.torchvision_ops import import_timm

ISSUE_FAMILIES = {
    *("ViT", "DeiT", "DeiT III", "MobileViT", "MobileViTv2", "EfficientViT (MSRA)", "EfficientViT (MIT)", "FastViT"),
    *("EfficientFormerV2", "TinyViT", "LeViT", "EdgeNeXt", "SwiftFormer", "RepViT", "MobileOne", "Swin", "BEiT", "MAE"),
    *("DINOv2", "MobileNetV3", "MobileNetV4", "EfficientNet-Lite", "ResNet", "ConvNeXt"),
}

every_model = pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)


@every_model
def test_a_model_has_the_parameters_and_macs_that_torch_counts(entry: ModelEntry) -> None:
    with torch.device("meta"):
        model = import_timm().create_model(entry.timm_name, exportable=True).eval()
        assert entry.params_m == pytest.approx(count_parameters(model) / 1e6, abs=6e-4)
        assert entry.image_size is not None
        assert entry.gmacs == pytest.approx(count_macs(model, entry.image_size) / 1e9, abs=6e-4)


@every_model
def test_a_models_native_size_and_weights_are_timms_own(entry: ModelEntry) -> None:
    config = import_timm().get_pretrained_cfg(entry.timm_name)
    assert config.input_size == (3, entry.image_size, entry.image_size)
    assert config.has_weights
    assert (config.num_classes == 0) == (entry.top1 is None)


def test_every_family_that_was_asked_for_is_there() -> None:
    assert {entry.family for entry in MODELS} == ISSUE_FAMILIES


def test_names_and_aliases_are_unique_and_find_their_model() -> None:
    spellings = [name for entry in MODELS for name in (entry.name, entry.alias) if name]
    assert len(set(spellings)) == len(spellings) - sum(entry.name == entry.alias for entry in MODELS)
    for entry in MODELS:
        assert find_model(entry.name) is entry
        assert entry.alias is None or find_model(entry.alias) is entry


@pytest.mark.parametrize("spelling", ["DeiT-Ti", "deit_ti", "deit-tiny-patch16-224"])
def test_case_and_dashes_do_not_matter(spelling: str) -> None:
    assert find_model(spelling).name == "deit_tiny_patch16_224"


def test_a_published_top1_names_its_table() -> None:
    deit, dinov2 = find_model("deit-ti"), find_model("dinov2-s")
    assert deit.top1 == 72.19
    assert str(deit.top1_source).endswith("results/results-imagenet.csv")
    assert dinov2.top1 is None
    assert dinov2.top1_source is None


def test_the_timm_prefix_takes_any_name_and_its_tag() -> None:
    entry = find_model("timm:resnet18.a1_in1k")
    assert (entry.architecture, entry.tag, entry.timm_name) == ("resnet18", "a1_in1k", "resnet18.a1_in1k")
    assert entry.params_m is None
    assert find_model("timm:resnet18").timm_name == "resnet18"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("deit-tii", "deit-ti"), ("mobilevit_sss", "mobilevit_s"), ("efficientvit_m9", "efficientvit_m")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_model(name)
    assert str(caught.value).startswith(f"Unknown model '{name}'. Did you mean '{nearest}")
    assert str(caught.value).endswith(f"Run 'edgevit models' to see all {len(MODELS)}.")


@pytest.mark.parametrize("name", ["", "timm:", "????"])
def test_a_name_like_no_other_has_no_suggestion(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"^Unknown model '.*'\. Run 'edgevit models' to see all"):
        find_model(name)


def test_the_registry_does_not_load_torch() -> None:
    code = "import sys, edgevit.models.registry; sys.exit(bool({'torch', 'timm', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
