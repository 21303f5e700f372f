import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgevit.errors import BadFileError, InputError, UnknownNameError
from edgevit.models import hub
from edgevit.models.create import count_macs, count_parameters, create_model, input_shape, preprocess_for, resolve_model
from edgevit.models.torchvision_ops import import_timm
from edgevit.models.weights import random_pictures
from edgevit.recipe import ModelSpec

TINY_ARGS = {"depth": 2, "embed_dim": 48, "num_heads": 3, "patch_size": 8}
WAYS_OUT = "Give a file with --weights PATH, take --weights random (accuracy then means nothing), or go online."

Loader = Callable[..., dict[str, torch.Tensor]]


def tiny(weights: str = "random", **changes: Any) -> ModelSpec:
    return ModelSpec(
        **{"name": "vit_tiny_patch16_224", "args": TINY_ARGS, "image_size": 32, "weights": weights, **changes}
    )


def logits(model: nn.Module, count: int = 3) -> torch.Tensor:
    pictures = random_pictures(count, input_shape(model), torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(pictures)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    others = second.state_dict()
    return all(torch.equal(tensor, others[name]) for name, tensor in first.state_dict().items())


@pytest.fixture
def use_loader(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loader], None]:
    """use_loader(f): f stands in for timm's download from the hub."""
    import_timm()

    def use(loader: Loader) -> None:
        monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", loader)

    return use


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """Weights of a tiny ViT with five classes."""
    file = tmp_path / "tiny.safetensors"
    save_file(create_model(tiny(), 5, seed=3).state_dict(), file)
    return file


def not_there(*_args: Any, **_options: Any) -> dict[str, torch.Tensor]:
    raise FileNotFoundError("not in the cache")


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("vit_tiny_patch16_224", 32),
        ("mobilevit_xxs", 64),
        ("efficientvit_m0", 64),
        ("fastvit_t8", 64),
        ("levit_128s", 64),
        ("beit_base_patch16_224", 32),
        ("timm:test_resnet", 64),
    ],
)
def test_random_weights_leave_no_part_idle(name: str, side: int) -> None:
    args = {"depth": 2} if name.startswith(("vit", "beit")) else {}
    model = create_model(ModelSpec(name=name, args=args, image_size=side, weights="random"), 10)
    out = logits(model)
    assert out.shape == (3, 10)
    assert bool(out.isfinite().all())
    assert float((out[0] - out[1]).abs().max()) > 1e-3
    assert not any(module.training for module in model.modules())
    idle = [key for key, parameter in model.named_parameters() if float(parameter.detach().abs().max()) < 1e-3]
    assert idle == []


def test_a_seed_gives_the_same_model_and_leaves_torchs_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (create_model(tiny(), 4, seed=seed) for seed in (7, 7, 8))
    assert same_weights(first, again)
    assert not same_weights(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_random_weights_have_as_many_classes_as_asked_or_a_thousand() -> None:
    assert logits(create_model(tiny(), 7), 1).shape == (1, 7)
    assert logits(create_model(tiny(), None), 1).shape == (1, 1000)
    dinov2 = ModelSpec(name="dinov2-s", args={"depth": 1}, image_size=56, weights="random")
    assert logits(create_model(dinov2, None), 1).shape == (1, 1000)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_are_taken(channels: int) -> None:
    model = create_model(tiny(channels=channels), 4)
    assert input_shape(model) == (channels, 32, 32)
    assert logits(model).shape == (3, 4)


def test_an_alias_a_tag_and_a_plain_timm_name_are_all_resolved() -> None:
    assert resolve_model("deit-ti").timm_name == "deit_tiny_patch16_224.fb_in1k"
    assert resolve_model("resnet18").timm_name == "resnet18"
    assert resolve_model("timm:resnet18.a1_in1k").timm_name == "resnet18.a1_in1k"
    assert resolve_model("vit_base_patch16_224").tag is None
    assert resolve_model("vit_base_patch16_224.mae").family == "MAE"


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown model 'mobilevit_x'\. Did you mean 'mobilevit_x"):
        resolve_model("mobilevit_x")
    with pytest.raises(InputError, match=r"timm .* has no architecture 'resnet19'\. Did you mean 'timm:resnet\d+"):
        resolve_model("timm:resnet19")
    with pytest.raises(InputError, match=r"timm has no weights 'resnet18\.b7'\. It has: .*resnet18\.a1_in1k"):
        resolve_model("timm:resnet18.b7")


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_a_distilled_model_answers_with_the_mean_of_its_heads(name: str) -> None:
    args = {"depth": 1} if name.startswith("deit") else {}
    model = create_model(ModelSpec(name=name, args=args, image_size=64, weights="random"), 6)
    heads: dict[str, torch.Tensor] = {}
    for head in ("head", "head_dist"):
        getattr(model, head).register_forward_hook(lambda _m, _i, out, head=head: heads.update({head: out}))
    out = logits(model)
    assert not torch.equal(heads["head"], heads["head_dist"])
    assert torch.allclose(out, (heads["head"] + heads["head_dist"]) / 2)


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        (
            "deit_tiny_patch16_224",
            33,
            ": image_size 33 is not a multiple of its patches' 16 pixels. The next that fits is 48.",
        ),
        (
            "vit_small_patch14_dinov2",
            225,
            ": image_size 225 is not a multiple of its patches' 14 pixels. The next that fits is 238.",
        ),
        (
            "swin_tiny_patch4_window7_224",
            50,
            ": image_size 50 is not a multiple of its patches' 4 pixels. The next that fits is 52.",
        ),
        ("levit_128s", 40, " does not take image_size 40: The size of tensor a (9) must match"),
        (
            "efficientvit_m0",
            8,
            " does not take image_size 8: integer modulo by zero. Use its native size or a multiple of",
        ),
    ],
)
def test_a_size_that_the_architecture_refuses_is_bad_input(name: str, side: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model(ModelSpec(name=name, image_size=side, weights="random"), 4)
    assert str(caught.value).startswith(f"Model '{name}'{message}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"wings": 2}, "cannot be built with .*wings=2.*: .*unexpected keyword argument 'wings'"),
        ({"embed_dim": 50, "num_heads": 3}, "cannot be built with .*embed_dim=50"),
        ({"num_classes": 4}, "args: 'num_classes' comes from the data. Remove it from args."),
        ({"img_size": 4}, "args: 'img_size' comes from image_size. Remove it from args."),
    ],
)
def test_bad_args_are_bad_input(args: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^Model 'vit_tiny_patch16_224'.* ?{message}"):
        create_model(ModelSpec(name="vit_tiny_patch16_224", args=args, weights="random"), 4)


def test_pretrained_weights_are_loaded_and_adapted(use_loader: Callable[[Loader], None]) -> None:
    spec = ModelSpec(name="vit_tiny_patch16_224", args={"depth": 1})
    published = create_model(spec.model_copy(update={"weights": "random"}), None)
    use_loader(lambda *_args, **_options: dict(published.state_dict()))
    assert same_weights(create_model(spec, None), published)
    small = create_model(spec.model_copy(update={"image_size": 96, "channels": 1}), 4)
    assert logits(small).shape == (3, 4)
    assert torch.equal(small.blocks[0].mlp.fc1.weight, published.blocks[0].mlp.fc1.weight)
    assert small.pos_embed.shape == (1, 6 * 6 + 1, 192)


@pytest.mark.parametrize("variable", [False, True])
def test_offline_without_cached_weights_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, use_loader: Callable[[Loader], None], variable: bool
) -> None:
    use_loader(not_there)
    monkeypatch.setattr(hub, "answers", lambda *_server: pytest.fail("the network was asked"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", variable)
    with pytest.raises(InputError) as caught:
        create_model(ModelSpec(name="deit-ti"), None, offline=not variable)
    start = (
        "Pretrained weights of 'deit_tiny_patch16_224' are not on this machine and offline mode forbids fetching them."
    )
    assert str(caught.value) == f"{start} {WAYS_OUT}"
    assert caught.value.exit_code == 2


def test_an_unreachable_hub_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, use_loader: Callable[[Loader], None]
) -> None:
    asked: list[bool] = []

    def loader(*_args: Any, **_options: Any) -> dict[str, torch.Tensor]:
        asked.append(hub.is_offline())
        return not_there()

    use_loader(loader)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", lambda *_server: False)
    with pytest.raises(InputError, match=r"and huggingface\.co cannot be reached\. Give a file with --weights PATH"):
        create_model(ModelSpec(name="efficientvit_m0"), None)
    assert asked == [True]  # the cache alone was looked at


def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, use_loader: Callable[[Loader], None]) -> None:
    use_loader(not_there)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", lambda *_server: True)
    with pytest.raises(InputError, match=r"and fetching them failed: not in the cache\. Give a file"):
        create_model(ModelSpec(name="efficientvit_m0"), None)


def test_weights_that_are_not_cached_are_fetched(
    monkeypatch: pytest.MonkeyPatch, use_loader: Callable[[Loader], None], caplog: pytest.LogCaptureFixture
) -> None:
    published = create_model(ModelSpec(name="efficientvit_m0", weights="random"), None)
    use_loader(lambda *_args, **_options: not_there() if hub.is_offline() else dict(published.state_dict()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", lambda *_server: True)
    with caplog.at_level(logging.INFO, "edgevit.models.create"):
        assert same_weights(create_model(ModelSpec(name="efficientvit_m0"), None), published)
    assert caplog.messages == ["Fetching the pretrained weights of efficientvit_m0.r224_in1k from huggingface.co"]


def test_weights_of_a_bare_address_are_not_fetched_offline() -> None:
    with pytest.raises(InputError, match="offline mode forbids"):
        create_model(ModelSpec(name="timm:gcvit_xxtiny"), None, offline=True)


def test_pretrained_weights_that_do_not_fit_the_args_say_so(use_loader: Callable[[Loader], None]) -> None:
    published = create_model(ModelSpec(name="vit_tiny_patch16_224", args={"depth": 1}, weights="random"), None)
    use_loader(lambda *_args, **_options: dict(published.state_dict()))
    with pytest.raises(InputError, match=r"do not fit its args: Missing key.*\. Use --weights random\."):
        create_model(ModelSpec(name="vit_tiny_patch16_224", args={"depth": 2}), None)


def test_bad_args_are_named_also_with_pretrained_weights(use_loader: Callable[[Loader], None]) -> None:
    use_loader(not_there)
    with pytest.raises(InputError, match="unexpected keyword argument 'wings'"):
        create_model(ModelSpec(name="vit_tiny_patch16_224", args={"wings": 2}), None)


def test_a_model_without_published_weights_says_so() -> None:
    with pytest.raises(
        InputError, match=r"timm has no pretrained weights of 'timm:vit_small_resnet26d_224'\. Use --wei"
    ):
        create_model(ModelSpec(name="timm:vit_small_resnet26d_224"), None)


def test_a_backbone_without_a_classifier_must_be_fine_tuned() -> None:
    with pytest.raises(InputError, match=r"'vit_small_patch14_dinov2' is published without a classifier\. Fine-tune"):
        create_model(ModelSpec(name="dinov2-s"), None)


def test_a_file_is_loaded_with_its_own_number_of_classes(tiny_file: Path) -> None:
    expected = create_model(tiny(), 5, seed=3)
    assert same_weights(create_model(tiny(str(tiny_file)), None), expected)
    assert same_weights(create_model(tiny(str(tiny_file)), 5), expected)


def test_a_file_keeps_no_second_copy_of_its_weights(tiny_file: Path) -> None:
    model = create_model(tiny(str(tiny_file)), 5)
    assert model.pretrained_cfg["state_dict"] is None
    assert model.default_cfg["state_dict"] is None


def test_a_files_position_embedding_is_interpolated(tiny_file: Path) -> None:
    model = create_model(tiny(str(tiny_file), image_size=64), 5)
    assert model.pos_embed.shape == (1, 8 * 8 + 1, 48)
    assert logits(model).shape == (3, 5)


def test_another_head_is_refused_unless_fine_tuning(tiny_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = tiny(str(tiny_file))
    with pytest.raises(BadFileError) as caught:
        create_model(spec, 7)
    start = f"{tiny_file}: has 5 classes, 7 are asked for."
    assert str(caught.value) == f"{start} Fine-tune it on this data first: edgevit finetune."
    model = create_model(spec, 7, new_head=True)
    assert caplog.messages == [f"{tiny_file}: its head of 5 classes is replaced by a new one of 7"]
    assert logits(model).shape == (3, 7)
    old = create_model(spec, 5)
    assert torch.equal(model.patch_embed.proj.weight, old.patch_embed.proj.weight)
    assert not any(module.training for module in model.modules())


def test_a_backbones_file_gets_a_head_only_for_fine_tuning(tmp_path: Path) -> None:
    spec = ModelSpec(name="dinov2-s", args={"depth": 1}, image_size=56, weights="random")
    state = create_model(spec, 3).state_dict()
    file = tmp_path / "backbone.safetensors"
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("head.")}, file)
    backbone = spec.model_copy(update={"weights": str(file)})
    assert logits(create_model(backbone, 4, new_head=True)).shape == (3, 4)
    with pytest.raises(InputError, match="published without a classifier"):
        create_model(backbone, None)
    with pytest.raises(BadFileError, match="has 0 classes, 4 are asked for"):
        create_model(backbone, 4)


def test_weights_of_another_architecture_are_refused_in_one_line(tiny_file: Path) -> None:
    for spec in (tiny(str(tiny_file), args={}), ModelSpec(name="mobilevit_xxs", image_size=64, weights=str(tiny_file))):
        with pytest.raises(
            BadFileError, match=r"does not hold weights of .* Name the model that it was saved"
        ) as caught:
            create_model(spec, None)
        assert str(caught.value).startswith(f"{tiny_file}: ")
        assert "\n" not in str(caught.value)


def test_a_files_channels_must_be_those_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "grey.safetensors"
    save_file(create_model(tiny(channels=1), 5).state_dict(), file)
    assert logits(create_model(tiny(str(file), channels=1), 5)).shape == (3, 5)
    with pytest.raises(BadFileError, match=r"takes 1 channels, 3 are asked for\. Set channels to 1\."):
        create_model(tiny(str(file)), 5)


def test_an_rgb_files_first_layer_is_adapted_to_other_channels(tiny_file: Path) -> None:
    grey = create_model(tiny(str(tiny_file), channels=1), 5)
    color = create_model(tiny(str(tiny_file)), 5)
    assert torch.allclose(grey.patch_embed.proj.weight[:, 0], color.patch_embed.proj.weight.sum(1))


def test_pictures_are_prepared_as_timm_prepares_them() -> None:
    model = create_model(ModelSpec(name="mobilenetv4_hybrid_medium", weights="random"), 4)
    preprocess = preprocess_for(model, ModelSpec(name="mobilenetv4_hybrid_medium"))
    timm = import_timm()
    resize, crop, *_, normalize = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("mobilenetv4_hybrid_medium").to_dict())
    ).transforms
    assert preprocess.resize == resize.size
    assert (preprocess.height, preprocess.width) == tuple(crop.size)
    assert preprocess.interpolation == resize.interpolation.value
    assert preprocess.mean == pytest.approx(normalize.mean.tolist())
    assert preprocess.std == pytest.approx(normalize.std.tolist())
    assert (preprocess.channels, preprocess.color, preprocess.crop_mode) == (3, "RGB", "center")


def test_another_size_keeps_the_crops_share_of_the_picture() -> None:
    preprocess = preprocess_for(create_model(tiny(), 4), tiny())
    assert preprocess.resize == math.floor(32 / 0.9)
    assert (preprocess.height, preprocess.width) == (32, 32)


@pytest.mark.parametrize(("channels", "color"), [(1, "L"), (5, "bands")])
def test_other_channels_take_the_mean_of_the_colors_figures(channels: int, color: str) -> None:
    spec = ModelSpec(name="mobilevitv2_050", image_size=64, channels=channels, weights="random")
    grey = ModelSpec(name="deit-ti", args={"depth": 1}, channels=channels, weights="random")
    assert preprocess_for(create_model(spec, 4), spec).mean == (0.0,) * channels
    preprocess = preprocess_for(create_model(grey, 4), grey)
    assert preprocess.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3] * channels)
    assert preprocess.std == pytest.approx([(0.229 + 0.224 + 0.225) / 3] * channels)
    assert preprocess.color == color


def test_a_squashing_model_has_no_crop() -> None:
    model = create_model(tiny(), 4)
    model.pretrained_cfg = {**model.pretrained_cfg, "crop_mode": "squash"}
    preprocess = preprocess_for(model, tiny())
    assert (preprocess.crop_mode, preprocess.resize) == ("squash", None)


@pytest.mark.parametrize(("key", "value"), [("crop_mode", "border"), ("interpolation", "hamming")])
def test_a_preparation_that_boards_cannot_do_is_refused(key: str, value: str) -> None:
    model = create_model(tiny(), 4)
    model.pretrained_cfg = {**model.pretrained_cfg, key: value}
    with pytest.raises(InputError, match=f"'vit_tiny_patch16_224': pictures prepared by '{value}' are not supported"):
        preprocess_for(model, tiny())


def test_parameters_and_macs_follow_from_the_layers_shapes() -> None:
    width, depth, patch, classes, tokens = 48, 2, 8, 5, 4 * 4 + 1
    model = create_model(tiny(), classes)
    block = 12 * width**2 + (3 + 1 + 4 + 1) * width + 2 * 2 * width
    embedding = 3 * patch**2 * width + width + tokens * width + width
    assert count_parameters(model) == embedding + depth * block + 2 * width + (width + 1) * classes
    attention = 2 * tokens**2 * width
    macs = (tokens - 1) * 3 * patch**2 * width + depth * (tokens * 12 * width**2 + attention) + width * classes
    assert count_macs(model, 32) == macs
