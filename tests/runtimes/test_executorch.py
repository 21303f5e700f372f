"""ExecuTorch: the pool of threads that all sessions of a process share, its inputs, and that it is quiet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tiny_figures import BIAS, SIDE, WEIGHTS, tiny_logits

from edgevit.board.amalgamate import agent_source
from edgevit.errors import BadFileError, InputError, MissingExtraError, ShapeMismatchError
from edgevit.runtimes import executorch, open_session

if find_spec("executorch") is None:
    pytest.skip("executorch is not installed", allow_module_level=True)
from tiny_pte import write_pte


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-3, 3, (1, 3, SIDE, SIDE)).astype(np.float32)


def expected(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float64).mean(axis=(2, 3)) @ WEIGHTS + BIAS


def pool_size() -> int:
    from executorch.extension.pybindings import _C

    size: int = _C._threadpool_get_thread_count()
    return size


def test_sessions_with_other_threads_take_turns_and_each_has_its_own_number(tmp_path: Path, pixels: np.ndarray) -> None:
    path = write_pte(tmp_path / "m.pte")
    sessions = {threads: open_session(path, "executorch", threads) for threads in (2, 1, 3)}
    for threads in (2, 1, 3, 3, 1, 2):
        np.testing.assert_allclose(sessions[threads].run(pixels), expected(pixels), atol=1e-5)
        assert pool_size() == threads


def test_a_session_goes_on_after_a_pool_of_its_size_was_made_anew(tmp_path: Path, pixels: np.ndarray) -> None:
    path = write_pte(tmp_path / "m.pte")
    first = open_session(path, "executorch", 2)
    for threads in (1, 2):
        open_session(path, "executorch", threads).close()
    np.testing.assert_allclose(first.run(pixels), expected(pixels), atol=1e-5)


def test_0_threads_are_every_core_that_it_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch, "usable_processors", lambda: [3, 5, 7])
    open_session(write_pte(tmp_path / "m.pte"), "executorch", 0)
    assert pool_size() == 3


def test_one_thread_is_one_thread_of_the_process_and_nothing_is_said(tmp_path: Path) -> None:
    """In a process of its own: it counts the threads there are before its first library and afterwards."""
    code = (
        "import os, sys, numpy, torch\n"
        "from edgevit.runtimes import open_session\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "session = open_session(sys.argv[1], 'executorch', 1)\n"
        f"session.run(numpy.zeros((1, 3, {SIDE}, {SIDE}), numpy.float32))\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    path = write_pte(tmp_path / "m.pte")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False, env=environment
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n", "")


def test_bytes_are_pictures(tmp_path: Path) -> None:
    session = open_session(write_pte(tmp_path / "m.pte", "uint8"), "executorch", 1)
    assert (session.input_type, session.input_shape) == ("uint8", (1, SIDE, SIDE, 3))
    images = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_allclose(session.run(images), tiny_logits(images), atol=1e-5)


def test_pixels_that_may_not_be_written_and_are_not_in_order_are_taken(tmp_path: Path, pixels: np.ndarray) -> None:
    session = open_session(write_pte(tmp_path / "m.pte"), "executorch", 1)
    odd = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    odd.flags.writeable = False
    np.testing.assert_array_equal(session.run(odd), session.run(pixels))


def test_programs_that_are_no_classifiers_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(BadFileError, match=r"two.pte: has 2 inputs, and a picture classifier has one of four"):
        open_session(write_pte(tmp_path / "two.pte", "two"), "executorch", 1)
    picture = open_session(write_pte(tmp_path / "picture.pte", "picture"), "executorch", 1)
    with pytest.raises(ShapeMismatchError, match=r"gives \(1, 3, 8, 8\), not logits of \(N, classes\)"):
        picture.run(pixels)


def test_what_fails_while_running_is_translated(tmp_path: Path) -> None:
    session = open_session(write_pte(tmp_path / "m.pte"), "executorch", 1)
    object.__setattr__(session, "input_shape", (None, None, None, None))
    with pytest.raises(ShapeMismatchError, match=r"m.pte: cannot run on \(1, 5, 8, 8\) \(.+\)\.$"):
        session.run(np.zeros((1, 5, SIDE, SIDE), np.float32))


def test_a_file_that_is_no_program_is_refused_by_what_executorch_says_of_it(tmp_path: Path) -> None:
    (tmp_path / "m.pte").write_bytes(b"no program" * 64)
    with pytest.raises(BadFileError, match=r"can load \(Program identifier .* != expected 'ET12'\)\. Export it again"):
        open_session(tmp_path / "m.pte", "executorch", 1)


def test_session_entries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ExecuTorch takes no session entries, and was given a, b\."):
        open_session(tmp_path / "m.pte", "executorch", 1, {"b": "1", "a": "1"})


def test_a_missing_torch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="needs the package 'torch'"):
        open_session(tmp_path / "m.pte", "executorch", 1)


def test_a_bundle_checks_itself_by_its_agent(
    tmp_path: Path, make_bundle: Callable[..., Path], sign_bundle: Callable[[Path], None]
) -> None:
    runtime = {"name": "executorch", "version": "1.5.1", "entry": "model.pte", "session": {}}
    root = make_bundle(runtime=runtime, agent=agent_source("executorch"))
    (root / "model.onnx").unlink()
    write_pte(root / "model.pte")
    sign_bundle(root)
    ended = subprocess.run(
        [sys.executable, str(root / "agent.py"), "selfcheck", "--json"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    document = json.loads(ended.stdout)
    assert (document["runtime"], document["passed"], document["n"]) == ("executorch", True, 6)
