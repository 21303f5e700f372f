from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from edgevit.errors import BadFileError, InputError
from edgevit.results import Epoch
from edgevit.train.state import (
    STATE_FILE,
    WEIGHTS_FILE,
    Progress,
    best_epoch,
    load_progress,
    load_weights,
    save_progress,
    save_weights,
)

UNREADABLE = r"cannot be read as what training left there\. Delete it to start over\."


def epoch(number: int, top1: float, loss: float) -> Epoch:
    return Epoch(epoch=number, learning_rate=0.1, train_loss=1.0, val_loss=loss, val_top1=top1, seconds=1.0)


def test_the_best_epoch_has_the_highest_top1_then_the_lower_loss_then_comes_first() -> None:
    curves = (epoch(1, 80.0, 0.1), epoch(2, 90.0, 0.5), epoch(3, 90.0, 0.4), epoch(4, 90.0, 0.4))
    assert best_epoch(curves).epoch == 3


def test_progress_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    weights = {"weight": torch.arange(3.0)}
    optimizer = {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}
    save_progress(tmp_path, {"train.seed": 1}, Progress((epoch(1, 50.0, 1.0),), weights, optimizer))
    progress = load_progress(tmp_path, {"train.seed": 1})
    assert progress.curves == (epoch(1, 50.0, 1.0),)
    assert progress.optimizer == optimizer
    assert progress.weights is not None
    assert torch.equal(progress.weights["weight"], torch.arange(3.0))


def test_an_empty_directory_holds_no_progress(tmp_path: Path) -> None:
    assert load_progress(tmp_path, {}) == Progress()


def test_other_settings_are_named_also_where_one_side_lacks_them(tmp_path: Path) -> None:
    save_progress(tmp_path, {"train.seed": 1, "distill": "teacher"}, Progress())
    with pytest.raises(InputError, match=r"other settings \(train\.seed was 1, is 2, distill was teacher, is None\)"):
        load_progress(tmp_path, {"train.seed": 2})


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04"])
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(BadFileError, match=f"{STATE_FILE}: {UNREADABLE}"):
        load_progress(tmp_path, {})


def test_a_state_without_the_expected_keys_is_refused(tmp_path: Path) -> None:
    torch.save({"plan": {}}, tmp_path / STATE_FILE)
    with pytest.raises(BadFileError, match=UNREADABLE):
        load_progress(tmp_path, {})


def test_a_state_that_would_run_code_is_refused_and_does_not_run_it(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"plan": Payload()}, tmp_path / STATE_FILE)
    with pytest.raises(BadFileError, match=UNREADABLE):
        load_progress(tmp_path, {})
    (tmp_path / STATE_FILE).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(BadFileError, match=UNREADABLE):
        load_progress(tmp_path, {})
    assert not (tmp_path / "ran").exists()


def test_weights_that_share_memory_or_lie_in_another_order_come_back_equal(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3))
    model[1].weight = model[0].weight
    model.to(memory_format=torch.channels_last)
    save_weights(tmp_path, model)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3))
    load_weights(tmp_path, other)
    assert torch.equal(other[0].weight, model[0].weight)
    assert torch.equal(other[1].weight, model[0].weight)


def test_missing_damaged_and_foreign_weights_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=f"{WEIGHTS_FILE}: {UNREADABLE}"):
        load_weights(tmp_path, nn.Linear(2, 2))
    (tmp_path / WEIGHTS_FILE).write_bytes(b"\x10")
    with pytest.raises(BadFileError, match=UNREADABLE):
        load_weights(tmp_path, nn.Linear(2, 2))
    save_weights(tmp_path, nn.Linear(3, 3))
    with pytest.raises(BadFileError, match=UNREADABLE):
        load_weights(tmp_path, nn.Linear(2, 2))
