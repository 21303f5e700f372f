"""Wrong words, wrong numbers, damaged bundles and reports: one clear line each, on every command."""

from __future__ import annotations

import pytest

TRAIN = "finetune vit_tiny_patch16_224 --data digits -o out"
TEACH = "distill vit_tiny_patch16_224 --data digits -o out --teacher resnet50"
EXPORT = "export checkpoint -o out"
REMAKE = "Make the bundle again with 'edgevit export', or copy it again."

WORDS = [
    ("nope", "Unknown command 'nope'. Run 'edgevit --help' to see all 18."),
    ("exprot checkpoint", "Unknown command 'exprot'. Did you mean 'export'? Run 'edgevit --help' to see all 18."),
    ("--bogus", "No such option '--bogus'."),
    ("models --bogus", "No such option '--bogus'."),
    ("devices extra", "No such command 'extra'."),
    ("devices ad", "No such command 'ad'. Did you mean 'add'?"),
    ("recipes nope", "Unknown recipe 'nope'. Run 'edgevit recipes' to see all"),
    ("run", "Missing argument 'RECIPE'."),
    ("run tiny.yaml extra", "Got unexpected extra argument (extra)"),
    ("run tiny.yaml --devices rpi5", "No such option '--devices'. Did you mean '--device'?"),
    ("export -o out", "Missing argument 'TARGET'."),
    ("export checkpoint", "Missing option '-o' / '--output'."),
    ("finetune vit_tiny_patch16_224 -o out", "Missing option '--data'."),
    ("distill vit_tiny_patch16_224 --data digits -o out", "Missing option '--teacher'."),
    ("evaluate bundle", "Missing option '--data'."),
    ("evaluate bundle --data digits --split all", "'all' is not one of 'train', 'val', 'test'."),
    ("predict", "Missing argument 'PICTURES...'."),
    ("predict pictures/cats/0.png", "Missing option '--bundle'."),
    ("bench bundle --emulate --threads 2", "--threads does not go with --emulate, which times nothing"),
    ("bench bundle --emulate --min-runs 64", "--min-runs does not go with --emulate, which times nothing"),
    ("bench bundle --emulate --host pi", "--host does not go with --emulate, which times nothing"),
    ("bench bundle --emulate --device rpi6", "Unknown device 'rpi6'. Did you mean 'rpi5'?"),
    ("bench bundle --emulate --streams 2", "--streams does not go with --emulate, which times nothing"),
    ("bench bundle --emulate --cool-down", "--cool-down does not go with --emulate, which times nothing"),
    ("bench bundle --offline", "--offline is for boards. Name one with --host user@board."),
    ("bench bundle --jobs 2", "--jobs is for boards. Name one with --host user@board."),
    ("bench bundle --ssh-config tiny.yaml", "--ssh-config is for boards. Name one with --host user@board."),
    ("bench bundle --wheels pictures", "--wheels is for boards. Name one with --host user@board."),
    ("bench bundle --duration 3 --min-seconds 2", "--duration and --min-seconds both say how long to measure."),
    ("bench bundle --host pi --cold-start 5 --streams 2", "--streams does not go with --cold-start"),
    ("bench bundle --single-stream --min-runs 64", "--single-stream asks for 1,024 queries at least, not 64."),
    ("bench bundle --batch 3", "--batch 3: this bundle takes 1 at a time. Leave --batch out, or export it again with"),
    ("bench bundle --cores 8000", "--cores 8000: there is no core 8000 to use here. These are: "),
    ("bench bundle --device rpi4", "--device is for --emulate."),
    ("bench bundle --data digits", "--data is for --emulate."),
    ("bench bundle --limit 200", "--limit is for --emulate."),
    ("compare", "Missing argument 'ITEMS...'."),
    ("compare bundle", "There is nothing to compare. Name two or more reports or bundles."),
    ("compare bundle bundle", "bundle: is named twice."),
    ("doctor --ssh-config tiny.yaml", "--ssh-config is for boards. Name one with --host user@board."),
    ("doctor --runtime openvino", "--runtime is for boards. Name one with --host user@board, or with --from-facts"),
    ("devices add --ssh-config tiny.yaml", "--ssh-config is for boards. Name one with --from-host user@board."),
    ("doctor --device rpi6", "Unknown device 'rpi6'. Did you mean 'rpi5'? Run 'edgevit devices' to see all"),
]

NUMBERS = [
    (f"{EXPORT} --max-drop -1", "Invalid value for '--max-drop': -1.0 is not in the range 0<=x<=100."),
    (f"{EXPORT} --max-drop nan", "Invalid value for '--max-drop': nan is not a finite number."),
    (f"{EXPORT} --max-drop little", "Invalid value for '--max-drop': 'little' is not a valid float range."),
    (f"{EXPORT} --max-latency-ms 0", "Invalid value for '--max-latency-ms': 0.0 is not in the range x>0."),
    (f"{EXPORT} --max-latency-ms inf", "Invalid value for '--max-latency-ms': inf is not a finite number."),
    (f"{EXPORT} --max-size-mib -5", "Invalid value for '--max-size-mib': -5.0 is not in the range x>0."),
    (f"{EXPORT} --opset 12", "Invalid value for '--opset': 12 is not in the range 17<=x<=23."),
    (
        f"{EXPORT} --precision int4",
        "'int4' is not one of 'auto', 'fp32', 'fp16', 'int8-dynamic', 'int8-static', 'mixed'.",
    ),
    (
        f"{EXPORT} --runtime ncnn",
        "'ncnn' is not one of 'auto', 'onnxruntime', 'openvino', 'litert', 'executorch', 'tensorrt', 'torchscript'.",
    ),
    (f"{EXPORT} --calibration-images 0", "Invalid value for '--calibration-images': 0 is not in the range"),
    (f"{EXPORT} --threads 0", "Invalid value for '--threads': 0 is not in the range 1<=x<=1024."),
    (f"{EXPORT} --seed -1", "Invalid value for '--seed': -1 is not in the range x>=0."),
    (f"{TRAIN} --epochs 0", "Invalid value for '--epochs': 0 is not in the range x>=1."),
    (f"{TRAIN} --batch-size 0", "Invalid value for '--batch-size': 0 is not in the range x>=1."),
    (f"{TRAIN} --learning-rate 0", "Invalid value for '--learning-rate': 0.0 is not in the range x>0."),
    (f"{TRAIN} --learning-rate nan", "Invalid value for '--learning-rate': nan is not a finite number."),
    (f"{TRAIN} --weight-decay inf", "Invalid value for '--weight-decay': inf is not a finite number."),
    (f"{TRAIN} --label-smoothing 1", "Invalid value for '--label-smoothing': 1.0 is not in the range 0<=x<1."),
    (f"{TRAIN} --hflip 1", "Invalid value for '--hflip': 1.0 is not in the range 0<=x<1."),
    (f"{TEACH} --alpha 2", "Invalid value for '--alpha': 2.0 is not in the range 0<=x<=1."),
    (f"{TEACH} --temperature nan", "Invalid value for '--temperature': nan is not a finite number."),
    (f"{TEACH} --mode firm", "Invalid value for '--mode': 'firm' is not one of 'hard', 'soft'."),
    ("evaluate bundle --data digits --limit 0", "Invalid value for '--limit': 0 is not in the range x>=1."),
    ("bench bundle --min-seconds nan", "Invalid value for '--min-seconds': nan is not a finite number."),
    ("bench bundle --min-runs 0", "Invalid value for '--min-runs': 0 is not in the range 1<=x<=1000000."),
    ("bench bundle --threads many", "Invalid value for '--threads': 'many' is not a whole number from 1 to 1024."),
    ("bench bundle --threads 0", "Invalid value for '--threads': '0' is not a whole number from 1 to 1024."),
    ("bench bundle --threads -2", "Invalid value for '--threads': '-2' is not a whole number from 1 to 1024."),
    ("bench bundle --threads 1,1", "Invalid value for '--threads': 1 is named twice."),
    ("bench bundle --threads 1025", "Invalid value for '--threads': '1025' is not a whole number from 1 to 1024."),
    ("bench bundle --duration 0", "Invalid value for '--duration': 0.0 is not in the range 0<x<=86400."),
    ("bench bundle --duration nan", "Invalid value for '--duration': nan is not a finite number."),
    ("bench bundle --percentiles 100", "'--percentiles': '100' is not a percentile between 0 and 100, such as 99.9."),
    ("bench bundle --batch 0", "Invalid value for '--batch': 0 is not in the range 1<=x<=4096."),
    ("bench bundle --streams 0", "Invalid value for '--streams': 0 is not in the range 1<=x<=256."),
    ("bench bundle --cold-start 2", "Invalid value for '--cold-start': 2 is not in the range 3<=x<=1000."),
    (
        "bench --cold-start bundle",
        "'bundle' is not a whole number of starts. Name the bundle first: edgevit bench bundle --cold-start",
    ),
    ("bench bundle --cores all", "Invalid value for '--cores': 'all' is not big, little or a list of cores"),
    ("predict pictures/cats/0.png --bundle bundle --top 0", "0 is not in the range 1<=x<=1000."),
]

NO_BUNDLES = [
    ("nowhere", "nowhere: there is no such directory. Name a bundle's directory."),
    ("tiny.yaml", "tiny.yaml: is not a directory. Name a bundle's directory."),
    ("bundle/model.onnx", "bundle/model.onnx: is not a directory. Name a bundle's directory."),
    ("pictures", "manifest.json: there is no such file: this is not a bundle. Name a bundle's directory."),
]

DAMAGED = [
    ("broken/bundle-changed", "model.onnx: has another sha256 than the manifest says: its content was changed."),
    ("broken/bundle-missing", f"labels.txt: is missing from the bundle. {REMAKE}"),
    ("broken/bundle-extra", "notes.txt: is not in the manifest. Move it elsewhere."),
    ("broken/bundle-cut", "golden.npz: has 100 bytes, and the manifest says"),
    ("broken/bundle-newer", "schema_version: is 2, and this edgevit reads up to 1. Use a newer edgevit."),
    ("broken/bundle-leaving", f"files: '../run/report.html' is not a path inside the bundle. {REMAKE}"),
    ("broken/bundle-bad-manifest", f"manifest.json: is not JSON. {REMAKE}"),
    ("broken/bundle-linked", f"labels.txt: is a symbolic link, which a bundle may not contain. {REMAKE}"),
]

REPORTS = [
    ("compare bundle nowhere", "nowhere: is neither a bundle nor a report (No such file or directory)."),
    ("compare bundle pictures", "pictures: is neither a bundle nor a report (Is a directory)."),
    ("compare bundle tiny.yaml", "tiny.yaml: is neither a bundle nor a report of 'edgevit bench'. Write one with:"),
    ("compare bundle broken/report.json", "broken/report.json: edgevit: Field required. It was written by another"),
    ("compare bundle broken/report-newer.json", "schema_version: 2 is newer than 1, the last that this edgevit reads"),
    ("report nowhere", "nowhere: is no run directory: metrics.json cannot be read (No such file or directory)."),
    ("report broken/run-empty", "broken/run-empty: is no run directory: metrics.json cannot be read ("),
    ("report broken/run-newer", "schema_version: 2 is newer than 1, the last that this edgevit reads. It was written"),
    ("report tiny.yaml", "tiny.yaml: document: Invalid JSON: expected value at line 1 column 1. It was written"),
    ("report run -o tiny.yaml/page.html", "tiny.yaml/page.html: cannot be written: Not a directory."),
    ("report run -o pictures", "pictures: cannot be written: Is a directory."),
    ("bench bundle --min-seconds 0 -o pictures", "pictures: cannot be written: Is a directory."),
]

CASES = [*WORDS, *NUMBERS, *REPORTS]


@pytest.mark.parametrize(("words", "message"), CASES, ids=[words for words, _ in CASES])
def test_bad_usage_is_one_line_and_leaves_nothing_behind(refused, words, message):
    assert message in refused(2, words)


@pytest.mark.parametrize(("bundle", "message"), NO_BUNDLES, ids=[bundle for bundle, _ in NO_BUNDLES])
@pytest.mark.parametrize("words", ["bench", "predict pictures/cats/0.png --bundle"])
def test_what_is_no_bundle_is_refused(refused, words, bundle, message):
    assert message in refused(2, f"{words} {bundle}")


@pytest.mark.parametrize(("bundle", "message"), DAMAGED, ids=[bundle for bundle, _ in DAMAGED])
@pytest.mark.parametrize(
    "words", ["bench", "compare bundle", "predict pictures/cats/0.png --bundle", "evaluate --data digits"]
)
def test_a_damaged_bundle_is_refused_wherever_it_is_opened(refused, words, bundle, message):
    assert message in refused(2, f"{words} {bundle}")


def test_verbose_shows_where_an_error_came_from(command, in_workplace):
    ended = command("export", "checkpoint", "-o", "bundle", "-v")
    assert ended.code == 2
    assert ended.err.startswith("Traceback (most recent call last):")
    assert ended.err.splitlines()[-1].startswith("Error: bundle: exists already")


def test_a_fault_of_our_own_is_one_line_too(command, monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("edgevit.catalog.list_devices", broken)
    line = "Error: edgevit itself failed: ZeroDivisionError: division by zero."
    assert command("devices") == (1, "", f"{line} Run again with -v to see where.\n")
    ended = command("devices", "-v")
    assert ended.code == 1
    assert ended.err.startswith("Traceback (most recent call last):")
    assert ended.err.endswith(f"\n{line}\n")
