"""Recipes and run directories that cannot be used: one line with file, line and key, and nothing left behind."""

from __future__ import annotations

import pytest

MISPLACED = "exists already and is not overwritten. Choose another name with -o, or remove it."
NO_FILE = "no such file. Check the path."

# (words after `edgevit run`, a part of the message)
NAMES = [
    ("nope", "Unknown recipe 'nope'. Run 'edgevit recipes' to see all"),
    ("digits-vit-tin", "Unknown recipe 'digits-vit-tin'. Did you mean 'digits-vit-tiny'?"),
    ("nope.yaml", f"nope.yaml: {NO_FILE}"),
    ("digits-vit-tiny.yaml", "Did you mean the recipe 'digits-vit-tiny' that comes with edgevit?"),
    ("broken/empty/", "broken/empty: is a directory, not a YAML file."),
    ("tiny.yaml --device rpi-5", "Unknown device 'rpi-5'. Did you mean 'rpi5'? Run 'edgevit devices' to see all"),
    ("tiny.yaml --device nope.yaml", f"nope.yaml: {NO_FILE}"),
    ("tiny.yaml --device broken/device.yaml", "broken/device.yaml: line 1, key 'title': this key is missing."),
    ("tiny.yaml --device tiny.yaml", "tiny.yaml: line 3, key 'model': unknown key 'model'. Allowed: name, title,"),
    ("tiny.yaml -o run", f"run: {MISPLACED}"),
    ("tiny.yaml -o tiny.yaml", f"tiny.yaml: {MISPLACED}"),
    ("tiny.yaml -o tiny.yaml/out", "tiny.yaml/out: cannot be written: Not a directory. Choose another folder with -o."),
    ("tiny.yaml -o /proc/out", "/proc/out: cannot be written: No such file or directory. Choose another folder"),
]

# (file in broken/, a part of the message after the file's name)
CONTENTS = [
    (
        "unknown-key",
        "line 11, key 'train.epoch': unknown key 'epoch'. Did you mean 'epochs'? Allowed: epochs, batch_size",
    ),
    ("unknown-top-key", "line 11, key 'trian': unknown key 'trian'. Did you mean 'train'?"),
    ("no-model", "line 3, key 'modle': unknown key 'modle'. Did you mean 'model'?"),
    ("wrong-type", "line 11, key 'train.epochs': must be a whole number, not 'many'."),
    ("boolean", "line 11, key 'train.epochs': must be a whole number, not true."),
    ("negative", "line 13, key 'budget.max_drop': must be at least 0.0, not -1."),
    ("no-latency", "line 13, key 'budget.max_latency_ms': must be greater than 0.0, not 0."),
    ("infinite", "line 13, key 'budget.max_drop': must be a finite number, not inf."),
    ("duplicate", "line 11, column 1: duplicate key 'device'; it stands on line 10 already."),
    ("tab", "line 12, column 1: YAML is indented with spaces; here is a tab."),
    ("open-brace", "line 12, column 7: YAML syntax: expected ',' or '}', but got ':'."),
    ("tag", "line 9, column 16: YAML tags are not allowed ('tag:yaml.org,2002:python/name:os.system')."),
    ("anchor", "line 2, column 7: anchors and aliases ('&name', '*name') are not allowed; write it out."),
    ("unknown-precision", "line 12, key 'export.precision': must be 'auto', 'fp32', 'fp16', 'int8-dynamic',"),
    ("unknown-precision", "not 'int8-statc'. Did you mean 'int8-static'?"),
    (
        "unknown-runtime",
        "line 12, key 'export.runtime': must be 'auto', 'onnxruntime', 'openvino', 'litert', 'executorch', 'tensorrt' "
        "or 'torchscript', not 'ncnn'.",
    ),
    ("bad-name", "line 2, key 'name': must match ^[a-z0-9][a-z0-9._-]*$, not '../tiny'."),
    ("empty", "is empty."),
    ("list", "line 1, column 1: must be a mapping (key: value), not a list."),
    ("latin1", "line 2: is not UTF-8 text. Save it as UTF-8."),
]

# (file in broken/, the message): these show only once the work has begun
CONTRADICTIONS = [
    ("unknown-device", "Unknown device 'rpi-5'. Did you mean 'rpi5'?"),
    (
        "unknown-dataset",
        "Unknown dataset 'digitz'. Did you mean 'digits'? DATA is a folder of class folders, or one of:",
    ),
    (
        "unknown-model",
        "Unknown model 'vit_tiny_patch16_225'. Did you mean 'vit_tiny_patch16_224'? Run 'edgevit models'",
    ),
    ("odd-size", "image_size 33 is not a multiple of its patches' 8 pixels. The next that fits is 40."),
    ("reserved-args", "args: 'img_size' comes from image_size. Remove it from args."),
    ("bad-args", "cannot be built with in_chans=1, patch_sizes=8,"),
    ("huge-split", "data.val_fraction: 0.85 leaves nothing to train on. Choose less than 0.8."),
    ("few-pictures", "data.train_limit: 5 pictures cannot show all 10 classes."),
    ("pretrained", "Pretrained weights of 'vit_tiny_patch16_224' are not on this machine and offline mode forbids"),
]


@pytest.mark.parametrize(("words", "message"), NAMES, ids=[words for words, _ in NAMES])
def test_what_is_named_wrongly_is_refused(refused, words, message):
    assert message in refused(2, f"run {words}")


@pytest.mark.parametrize(("name", "message"), CONTENTS, ids=[name for name, _ in CONTENTS])
def test_a_bad_recipe_is_refused_with_file_line_and_key(refused, name, message):
    line = refused(2, f"run broken/{name}.yaml -o out")
    assert line.startswith(f"broken/{name}.yaml: ")
    assert message in line


@pytest.mark.parametrize(("name", "message"), CONTRADICTIONS, ids=[name for name, _ in CONTRADICTIONS])
def test_a_recipe_that_cannot_be_done_leaves_nothing_behind(refused, name, message):
    assert message in refused(2, f"run broken/{name}.yaml -o out --offline")
