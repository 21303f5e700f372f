"""Fixtures of the command line's tests: commands run in this process, and a folder of things to point them at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from broken_things import add_broken_things
from commands import Ended, run_here
from PIL import Image

TINY_RECIPE = """\
# A ViT so small that it trains in a second, for a board that this machine does not stand for.
name: tiny
model:
  name: vit_tiny_patch16_224
  args: {patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}
  image_size: 32
  channels: 1
  weights: random
data: {source: digits, val_fraction: 0.2, train_limit: 200, eval_limit: 50}
device: rpi5
train: {epochs: 1}
export: {precision: fp32, runtime: onnxruntime}
budget: {max_drop: null}
"""


@pytest.fixture(scope="session")
def command() -> Callable[..., Ended]:
    """command('predict', picture, …) runs `edgevit predict …` in this process and says how it ended."""
    return run_here


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it, with much that is broken. Tests do not change it.

    tiny.yaml, its run/ with copies of its checkpoint/ and bundle/, pictures/ of two classes, broken/.
    """
    root = tmp_path_factory.mktemp("workplace")
    (root / "tiny.yaml").write_text(TINY_RECIPE)
    ended = run_here("run", root / "tiny.yaml", "-o", root / "run")
    assert ended.code == 0, ended.err
    for name in ("bundle", "checkpoint"):
        shutil.copytree(root / "run" / name, root / name)
    random = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (root / "pictures" / kind).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 256, (32, 32), np.uint8)
            Image.fromarray(pixels).save(root / "pictures" / kind / f"{number}.png")
    add_broken_things(root)
    return root


@pytest.fixture
def in_workplace(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workplace as the working directory. The test fails when anything in it was changed or left behind."""
    monkeypatch.chdir(workplace)
    before = _listing(workplace)
    yield workplace
    assert _listing(workplace) == before


@pytest.fixture
def refused(in_workplace: Path) -> Callable[..., str]:
    """refused(2, 'bench nowhere') is the error's line: the only one on stderr, and with --json the document's, too."""

    def check(code: int, words: str) -> str:
        plain = run_here(*words.split())
        assert plain.out == ""
        assert len(plain.err.splitlines()) == 1, plain.err
        assert plain.err.startswith("Error: ")
        assert plain.code == code, plain.err
        machine = run_here(*words.split(), "--json")
        assert machine.code == code
        assert machine.err == plain.err
        message = plain.err.removeprefix("Error: ").rstrip("\n")
        assert machine.document == {"schema_version": 1, "kind": "error", "exit_code": code, "message": message}
        return message

    return check


def _listing(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything below `root`, hidden files too."""
    return {
        path.relative_to(root).as_posix(): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")
    }
