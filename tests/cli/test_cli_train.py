"""finetune and distill, on ten small pictures: a checkpoint that the next command takes."""

from __future__ import annotations

import json
import shutil

import pytest

MODEL = "vit_tiny_patch16_224"
QUICK = ("--image-size", "32", "--batch-size", "4", "--warmup-epochs", "0")


@pytest.fixture(scope="module")
def checkpoint(command, workplace, tmp_path_factory):
    """A model that was fine-tuned on pictures/ for two epochs, and how the command ended."""
    target = tmp_path_factory.mktemp("trained") / "model"
    data = workplace / "pictures"
    ended = command(
        "finetune", MODEL, "--weights", "random", "--data", data, "-o", target, "--epochs", "2", *QUICK, "--json"
    )
    assert ended.code == 0, ended.err
    return target, ended


def test_fine_tuning_ends_in_a_checkpoint_and_nothing_else(checkpoint):
    target, ended = checkpoint
    assert sorted(path.name for path in target.parent.iterdir()) == ["model"]
    assert sorted(path.name for path in target.iterdir()) == ["checkpoint.json", "model.safetensors"]
    info = json.loads((target / "checkpoint.json").read_text())
    assert info["labels"] == ["cats", "dogs"]
    assert info["image_size"] == 32
    document = ended.document
    assert document["kind"] == "training"
    assert document["checkpoint"] == str(target)
    assert [epoch["epoch"] for epoch in document["curves"]] == [1, 2]
    assert info["val_top1"] == document["curves"][document["best"] - 1]["val_top1"]
    notes = [line for line in ended.err.splitlines() if line.startswith("epoch ")]
    assert [note.split(":")[0] for note in notes] == ["epoch 1", "epoch 2"]


def test_a_checkpoint_teaches_and_is_not_overwritten(command, checkpoint, workplace, tmp_path):
    teacher, _ = checkpoint
    words = (
        "distill", MODEL, "--weights", "random", "--teacher", MODEL, "--teacher-weights", teacher,
        "--data", workplace / "pictures", "-o", tmp_path / "student", "--epochs", "1", "--mode", "soft", *QUICK,
    )  # fmt: skip
    ended = command(*words)
    assert ended.code == 0, ended.err
    assert f"{tmp_path / 'student'}: best of 1 epochs is 1, validation top-1 " in ended.out
    assert ended.out.splitlines()[-1].startswith(f"Next: edgevit export {tmp_path / 'student'} --device rpi5 --data ")
    again = command(*words)
    assert again.code == 2
    assert again.err.startswith(f"Error: {tmp_path / 'student'}: exists already and is not overwritten.")


def test_another_process_at_the_same_run_is_noticed(command, workplace, tmp_path, monkeypatch):
    import edgevit.pipeline

    inner = []

    def meanwhile(*arguments, **options):
        if not inner:
            inner.append(None)
            inner[0] = command("run", workplace / "tiny.yaml", "-o", tmp_path / "out")
        raise KeyboardInterrupt

    monkeypatch.setattr(edgevit.pipeline, "open_dataset", meanwhile)
    assert command("run", workplace / "tiny.yaml", "-o", tmp_path / "out").code == 130
    assert inner[0].code == 2
    assert inner[0].err.endswith("another process is making this run. Wait for it, or choose another -o.\n")


def test_a_recipe_without_an_output_gets_a_free_name_in_runs(command, workplace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(workplace / "tiny.yaml", tmp_path)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    ended = command("run", "tiny.yaml")
    assert ended.code == 0, ended.err
    assert ended.out.endswith(
        "\nBundle: runs/tiny-2/bundle\nPage:   runs/tiny-2/report.html\n\nNext: edgevit bench runs/tiny-2/bundle\n"
    )
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny", "tiny-2"]
