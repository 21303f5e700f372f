from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from edgevit import store
from edgevit.errors import BadFileError, InputError
from edgevit.store import free_name, new_directory, publish, sha256_file, write_bytes, write_json, write_text
from edgevit.units import MIB


class FailingFlush:
    """Stands for os.fsync on a disk that refuses; by default because it is full."""

    def __init__(self, code: int = errno.ENOSPC) -> None:
        self.code = code

    def __call__(self, descriptor: int) -> None:
        raise OSError(self.code, os.strerror(self.code))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_as_utf8_and_nothing_else_is_left(tmp_path):
    write_text(tmp_path / "a.txt", "grün\n")

    assert (tmp_path / "a.txt").read_bytes() == b"gr\xc3\xbcn\n"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_readable_for_others_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_an_old_file_is_replaced(tmp_path):
    write_text(tmp_path / "a", "old")
    write_text(tmp_path / "a", "new")

    assert (tmp_path / "a").read_text() == "new"


def test_json_is_readable_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, "ü"], "a": None})

    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"b": [1, "ü"], "a": None}
    assert text.endswith("}\n")
    assert "ü" in text


def test_a_record_is_written_as_its_json(tmp_path):
    from edgevit.device import Source

    write_json(tmp_path / "a.json", Source(covers=("cpu",), note="derived"))

    assert json.loads((tmp_path / "a.json").read_text()) == {"covers": ["cpu"], "url": None, "note": "derived"}


def test_nan_is_no_json_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})

    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, code):
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", FailingFlush(code))

    with pytest.raises(BadFileError) as caught:
        write_text(tmp_path / "a", "new")

    assert str(caught.value) == (
        f"{tmp_path / 'a'}: cannot be written: the disk is full. Free some space or choose another disk."
    )
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EROFS, "Read-only file system"),
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Operation not permitted"),
    ],
)
def test_a_place_that_may_not_be_written_to_says_so(tmp_path, monkeypatch, code, words):
    monkeypatch.setattr(os, "fsync", FailingFlush(code))

    with pytest.raises(BadFileError) as caught:
        write_text(tmp_path / "a", "new")

    assert str(caught.value) == (
        f"{tmp_path / 'a'}: cannot be written: {words}. Choose a folder that you may write to."
    )
    assert names(tmp_path) == []


def test_a_folder_that_is_missing_or_a_file_says_so(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(BadFileError, match=r"none/a: cannot be written: No such file or directory\."):
        write_text(tmp_path / "none" / "a", "x")
    with pytest.raises(BadFileError, match=r"file/a: cannot be written: Not a directory\."):
        write_text(tmp_path / "file" / "a", "x")


def test_a_directory_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "a").mkdir()

    with pytest.raises(BadFileError, match=r"a: cannot be written: Is a directory\."):
        write_text(tmp_path / "a", "x")

    assert names(tmp_path) == ["a"]


def test_a_new_directory_appears_whole(tmp_path):
    with new_directory(tmp_path / "deep" / "run") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("1")
        assert folder.name.startswith(".run.partial-")
        assert names(tmp_path / "deep") == [folder.name]

    assert names(tmp_path / "deep") == ["run"]
    assert (tmp_path / "deep" / "run" / "sub" / "a").read_text() == "1"


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_whatever_goes_wrong_leaves_nothing(tmp_path, error):
    def work() -> None:
        with new_directory(tmp_path / "run") as folder:
            (folder / "a").write_text("half")
            raise error

    with pytest.raises(type(error)):
        work()

    assert names(tmp_path) == []


def test_an_existing_target_is_refused_before_any_work(tmp_path):
    (tmp_path / "run").mkdir()

    with pytest.raises(InputError) as caught, new_directory(tmp_path / "run"):
        pytest.fail("the block must not run")

    assert str(caught.value) == (
        f"{tmp_path / 'run'}: exists already and is not overwritten. Choose another name with -o, or remove it."
    )


@pytest.mark.parametrize(
    "occupy",
    [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")],
    ids=["directory", "file", "dangling link"],
)
def test_a_target_that_appears_meanwhile_is_kept(tmp_path, occupy):
    with pytest.raises(InputError, match="exists already and is not overwritten"), new_directory(tmp_path / "run"):
        occupy(tmp_path / "run")

    assert names(tmp_path) == ["run"]


def test_a_target_that_wins_the_race_with_the_rename_is_kept(tmp_path, monkeypatch):
    (tmp_path / "temp").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "theirs").write_text("")
    monkeypatch.setattr(store, "_refuse_existing", lambda target: None)

    with pytest.raises(InputError, match="exists already"):
        publish(tmp_path / "temp", tmp_path / "run")

    assert names(tmp_path / "run") == ["theirs"]


def test_publishing_what_is_not_there_names_the_target(tmp_path):
    with pytest.raises(BadFileError, match=r"run: cannot be written: No such file or directory\."):
        publish(tmp_path / "temp", tmp_path / "run")


def test_a_disk_that_fills_up_while_a_directory_is_made_says_so(tmp_path):
    with (
        pytest.raises(BadFileError, match=r"run: cannot be written: the disk is full\."),
        new_directory(tmp_path / "run"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere/model.onnx")

    assert names(tmp_path) == []


def test_a_disk_that_is_full_when_a_directory_is_flushed_says_so(tmp_path, monkeypatch):
    with (
        pytest.raises(BadFileError, match=r"run: cannot be written: the disk is full\."),
        new_directory(tmp_path / "run"),
    ):
        monkeypatch.setattr(os, "fsync", FailingFlush())

    assert names(tmp_path) == []


def test_a_file_system_that_cannot_flush_directories_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", FailingFlush(errno.EINVAL))

    with new_directory(tmp_path / "run"):
        pass

    assert names(tmp_path) == ["run"]


def test_other_errors_of_the_block_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), new_directory(tmp_path / "run"):
        (tmp_path / "picture.png").read_bytes()

    assert names(tmp_path) == []


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(BadFileError, match=r"file/run: cannot be written: Not a directory\."),
        new_directory(tmp_path / "file" / "run"),
    ):
        pytest.fail("the block must not run")


def test_a_free_name_counts_up_past_files_directories_and_links(tmp_path):
    assert free_name(tmp_path, "run") == "run"
    (tmp_path / "run").mkdir()
    assert free_name(tmp_path, "run") == "run-2"
    (tmp_path / "run-2").write_text("")
    (tmp_path / "run-3").symlink_to("nowhere")
    assert free_name(tmp_path, "run") == "run-4"


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1])
def test_the_digest_is_that_of_the_whole_file(tmp_path, size):
    data = bytes(index % 251 for index in range(size))
    (tmp_path / "a").write_bytes(data)

    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()
