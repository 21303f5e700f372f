"""Names, files and folders that cannot be used: the right exit code, one clear line, and nothing left behind."""

from __future__ import annotations

import pytest

EXISTS = "exists already and is not overwritten. Choose another name with -o, or remove it."
OUT_OF_REACH = (
    "are not on this machine and offline mode forbids fetching them. Give a file with --weights PATH, "
    "take --weights random (accuracy then means nothing), or go online."
)
UNKNOWN_DATA = "DATA is a folder of class folders, or one of: digits, fashion-mnist, cifar10, cifar100, pets,"
RUNS_CODE = "broken/evil.pth: is a pickle that could run code when loaded: refused. Save its state_dict as .safetensors"
OTHER_CLASSES = "was made for 10 classes, and the pictures have 2: it does not know 'cats'."
OWN_WEIGHTS = "has its own weights, classes, image size and channels. Leave these options out."
TO_RPI5 = "export checkpoint --device rpi5 -o out"
VIT = "export vit_tiny_patch16_224 -o out"

MODELS = [
    ("export nope --weights random -o out", "Unknown model 'nope'. Run 'edgevit models' to see all"),
    ("export deit_tiny_patch16_225 -o out", "Did you mean 'deit_tiny_patch16_224'? Run 'edgevit models' to see all"),
    ("export timm:resnet51 -o out", "has no architecture 'resnet51'. Did you mean 'timm:resnet"),
    (f"{VIT} --offline", f"Pretrained weights of 'vit_tiny_patch16_224' {OUT_OF_REACH}"),
    (f"{VIT} --weights random --image-size 100", "image_size 100 is not a multiple of its patches' 16 pixels."),
    (f"{VIT} --weights nowhere.safetensors", "nowhere.safetensors: does not exist. Name a checkpoint directory, or a"),
    (f"{VIT} --weights checkpoint", "checkpoint: takes 1 channels, 3 are asked for. Set channels to 1."),
    (f"{VIT} --weights broken/weights.safetensor", "'.safetensor' is no suffix of weights; known are .safetensors,"),
    (f"{VIT} --weights broken/other.pth", "does not hold weights of 'vit_tiny_patch16_224' as asked for: Missing key"),
    (f"{VIT} --weights broken/cut.pth", "broken/cut.pth: is not a whole file of PyTorch weights. Copy or download it"),
    (f"{VIT} --weights broken/evil.pth", RUNS_CODE),
    ("finetune nope --data digits -o out", "Unknown model 'nope'. Run 'edgevit models' to see all"),
    ("finetune vit_tiny_patch16_224 --data digits -o out --offline", OUT_OF_REACH),
    ("finetune vit_tiny_patch16_224 --data digits -o out --weights broken/evil.pth", RUNS_CODE),
    ("finetune vit_tiny_patch16_224 --data digits -o checkpoint", f"checkpoint: {EXISTS}"),
    ("finetune vit_tiny_patch16_224 --data broken/one-class -o out", "has one class only, 'cats'."),
    ("distill vit_tiny_patch16_224 --weights random --teacher nope --data digits -o out", "Unknown model 'nope'."),
    (
        "distill vit_tiny_patch16_224 --weights random --teacher resnet50 --data digits -o out --offline",
        "Teacher 'resnet50' was trained on 1000 classes, and the data have 10: a new head teaches nothing.",
    ),
]

CHECKPOINTS = [
    ("export broken/checkpoint-cut -o out", "model.safetensors: is not a whole safetensors file ("),
    ("export broken/checkpoint-newer -o out", "schema_version: is 2, this edgevit reads up to 1. Update edgevit."),
    ("export broken/checkpoint-other -o out", "cannot be built with in_chans=1, patch_size=8, embed_dim=64,"),
    ("export broken/checkpoint-no-info -o out", "has no checkpoint.json beside its weights. Name the model"),
    ("export broken/checkpoint-no-weights -o out", "has no model.safetensors. Name a checkpoint directory, or a"),
    ("export broken/evil.pth -o out", "broken/evil.pth: has no checkpoint.json beside its weights. Name the model"),
    ("export pictures -o out", "pictures: has no model.safetensors. Name a checkpoint directory"),
    ("export bundle -o out", "bundle: is a bundle already. Name the checkpoint or the model that it was made from."),
    ("export checkpoint -o out --classes 3", f"checkpoint: {OWN_WEIGHTS}"),
    ("export checkpoint -o out --image-size 48", f"checkpoint: {OWN_WEIGHTS}"),
    ("export checkpoint -o out --weights random", f"checkpoint: {OWN_WEIGHTS}"),
    ("export checkpoint -o bundle", f"bundle: {EXISTS}"),
    ("export checkpoint -o tiny.yaml", f"tiny.yaml: {EXISTS}"),
    ("export checkpoint -o tiny.yaml/deep/out", "tiny.yaml/deep/out: cannot be written: Not a directory."),
    ("export checkpoint -o /proc/out", "/proc/out: cannot be written: No such file or directory."),
    ("export checkpoint -o out --device rpi6", "Unknown device 'rpi6'. Did you mean 'rpi5'? Run 'edgevit devices'"),
    (
        "export checkpoint -o out --device jetson-orin-nano --runtime tensorrt --precision mixed",
        "--runtime tensorrt runs fp32, fp16 and int8-static, not mixed. Leave --precision out.",
    ),
    (
        "export checkpoint -o out --device jetson-orin-nano --runtime tensorrt --dynamic-batch",
        "--dynamic-batch does not go with --runtime tensorrt: its engine is built for one size.",
    ),
    (
        "export checkpoint -o out --precision fp16",
        "--precision fp16 is for --runtime tensorrt, not onnxruntime. Leave --precision out.",
    ),
    (
        "export checkpoint -o out --runtime torchscript --precision int8-static",
        "--runtime torchscript runs fp32 and int8-dynamic, not int8-static. Leave --precision out.",
    ),
]

GRAPHS = [
    ("export nowhere.onnx -o out", "nowhere.onnx: is not a file. Give the path of an .onnx file."),
    ("export broken/folder.onnx -o out", "broken/folder.onnx: is not a file. Give the path of an .onnx file."),
    ("export broken/truncated.onnx -o out", "broken/truncated.onnx: is no ONNX model or a broken one: "),
    ("export broken/empty.onnx -o out", "broken/empty.onnx: is no ONNX model or a broken one: "),
    ("export broken/onnx-alone/model.onnx -o out", "needs a preprocess.json beside it. How the pictures are prepared"),
    ("export broken/onnx-two-inputs/model.onnx -o out", "must have one input (B, C, H, W) and one output (B, classes)"),
    ("export broken/onnx-other-size/model.onnx -o out", "makes inputs of (3, 8, 8), and model.onnx takes (3, 16, 16)."),
    ("export broken/onnx-other-labels/model.onnx -o out", "has 2 labels, and the model has 3 classes."),
    ("export broken/onnx-bad-preprocess/model.onnx -o out", "preprocess.json: cannot be read as JSON ("),
    ("export onnx/model.onnx -o out --channels 1", f"onnx/model.onnx: {OWN_WEIGHTS}"),
    (
        "export onnx/model.onnx -o out --runtime torchscript",
        "'model' is an ONNX file, and --runtime torchscript needs a checkpoint or a model.",
    ),
    (
        "export onnx/model.onnx -o out --precision int8-static --device rpi5",
        "'model' has no linear layers or convolutions for --precision int8-static. Take another.",
    ),
]

PICTURES = [
    (f"{TO_RPI5} --data broken/empty", "broken/empty: is empty. DATA is a folder with one folder of pictures"),
    (f"{TO_RPI5} --data broken/file", "broken/file: is a file. DATA is a folder of class folders, or the name of a"),
    (f"{TO_RPI5} --data broken/one-class", "has one class only, 'cats'. Classifying takes at least two."),
    (f"{TO_RPI5} --data broken/hollow", "broken/hollow/cats: the class has no pictures. Add some, or remove the"),
    (f"{TO_RPI5} --data broken/loose", "holds '0.png' beside its class folders. Move each picture into the folder"),
    (f"{TO_RPI5} --data broken/few", "class 'dogs' has 2 pictures, and a split into 3 parts takes at least 3."),
    (f"{TO_RPI5} --data broken/no-train", "broken/no-train: has 'test' but no 'train' folder."),
    (f"{TO_RPI5} --data broken/one-broken", "1 of 10 pictures are broken, more than 1 %: dogs/1.png cannot be"),
    (f"{TO_RPI5} --data nowhere/at/all", "nowhere/at/all: there is no such folder."),
    (f"{TO_RPI5} --data digitz", f"Unknown dataset 'digitz'. Did you mean 'digits'? {UNKNOWN_DATA}"),
    (f"{TO_RPI5} --data pictures", f"vit_tiny_patch16_224: {OTHER_CLASSES}"),
    (f"{TO_RPI5} --calibration-data broken/empty", "broken/empty: holds no pictures (.jpg, "),
    (f"{TO_RPI5} --calibration-data broken/file", "broken/file: is a file. Give a folder of pictures."),
    (f"{TO_RPI5} --calibration-data nowhere", "nowhere: there is no such folder."),
    ("evaluate bundle --data cifar10 --offline", "Dataset 'cifar10' is not on this machine, and --offline forbids to"),
    ("evaluate bundle --data pictures", f"bundle: {OTHER_CLASSES}"),
    ("evaluate checkpoint --data pictures", f"checkpoint: {OTHER_CLASSES}"),
    ("evaluate nowhere --data digits", "nowhere: does not exist. Give a checkpoint, an .onnx file or a bundle."),
    (
        "evaluate tiny.yaml --data digits",
        "has the suffix '.yaml', and no runtime opens that. Known are: .onnx, .tflite, .pte, .ts.",
    ),
    ("evaluate broken/evil.pth --data digits", "broken/evil.pth: has no checkpoint.json beside its weights."),
    (
        "distill vit_tiny_patch16_224 --weights random --teacher vit_tiny_patch16_224 --teacher-weights random "
        "--data digits -o out",
        "has random weights, which teach nothing. Give it a checkpoint.",
    ),
    ("evaluate onnx/model.onnx --data digits", "needs a labels.txt beside it. A bundle has both: evaluate the"),
    ("evaluate broken/onnx-alone/model.onnx --data digits", "needs a preprocess.json beside it. A bundle has both:"),
    (
        "evaluate broken/onnx-other-labels/model.onnx --data pictures",
        "onnx-other-labels/model.onnx: gives 3 figures for a picture, and its labels are 2.",
    ),
    ("evaluate broken/checkpoint-cut --data digits", "model.safetensors: is not a whole safetensors file ("),
]

CASES = [*MODELS, *CHECKPOINTS, *GRAPHS, *PICTURES]


@pytest.fixture(autouse=True)
def no_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Datasets that this machine happens to have are out of sight."""
    from edgevit.data import downloads

    monkeypatch.setattr(downloads, "data_roots", lambda: [tmp_path])


@pytest.mark.parametrize(("words", "message"), CASES, ids=[words for words, _ in CASES])
def test_bad_input_is_one_line_and_leaves_nothing_behind(refused, in_workplace, words, message):
    assert message in refused(2, words)
    assert not (in_workplace / "canary").exists()  # no pickle ran its code


def test_the_pickle_of_these_tests_does_run_code_elsewhere(workplace, tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    pickle.loads((workplace / "broken" / "evil.pth").read_bytes())
    assert (tmp_path / "canary").is_dir()
