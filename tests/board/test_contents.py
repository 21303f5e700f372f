from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgevit.board.contents import open_bundle, read_golden
from edgevit.errors import BadFileError

MakeBundle = Callable[..., Path]
Sign = Callable[[Path], None]


def test_an_open_bundle_has_its_parts(make_bundle: MakeBundle) -> None:
    bundle = open_bundle(make_bundle())
    assert bundle.labels == ("red", "green", "blue", "gray")
    assert (bundle.preprocess.height, bundle.preprocess.color) == (8, "RGB")
    assert bundle.golden["images"].shape == (6, 8, 8, 3)


def test_a_bundle_without_one_of_its_parts_is_refused(make_bundle: MakeBundle, sign_bundle: Sign) -> None:
    root = make_bundle()
    (root / "golden.npz").unlink()
    sign_bundle(root)
    with pytest.raises(BadFileError, match=r"manifest.json: files: has no 'golden.npz'"):
        open_bundle(root)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.txt", b"red\ngreen\n", r"labels.txt: has 2 labels, and the model has 4 classes"),
        ("labels.txt", b"\xff\xfe", r"labels.txt: is not UTF-8 text"),
        ("preprocess.json", b"{", r"preprocess.json: is not JSON"),
        ("preprocess.json", b"{}", r"preprocess.json: schema_version"),
        ("golden.npz", b"PK\x03\x04", r"golden.npz: is not a readable set of golden pictures"),
    ],
)
def test_a_part_that_makes_no_sense_is_refused_by_name(
    make_bundle: MakeBundle, sign_bundle: Sign, name: str, content: bytes, words: str
) -> None:
    root = make_bundle()
    (root / name).write_bytes(content)
    sign_bundle(root)
    with pytest.raises(BadFileError, match=words):
        open_bundle(root)


def test_a_label_may_hold_any_sign_but_a_line_feed(make_bundle: MakeBundle, sign_bundle: Sign) -> None:
    root = make_bundle()
    (root / "labels.txt").write_text("a b\nç\u2028d\n東\n-\n", encoding="utf-8")
    sign_bundle(root)
    assert open_bundle(root).labels == ("a b", "ç\u2028d", "東", "-")


def test_golden_pictures_of_other_kinds_or_numbers_are_refused(tmp_path: Path) -> None:
    good = {
        "images": np.zeros((2, 4, 4, 3), np.uint8),
        "logits": np.zeros((2, 5), np.float32),
        "classes": np.zeros(2, np.int64),
    }
    changes = {
        "images": good["images"].astype(np.float32), "logits": np.zeros((3, 5), np.float32),
        "classes": np.zeros((2, 1), np.int64),
    }  # fmt: skip
    path = str(tmp_path / "golden.npz")
    for key, value in changes.items():
        np.savez(path, **{**good, key: value})
        with pytest.raises(BadFileError, match=f"golden.npz: {key}: is {value.dtype}"):
            read_golden(path)
    np.savez(path, images=good["images"])
    with pytest.raises(BadFileError, match="is not a readable set of golden pictures"):
        read_golden(path)
    np.savez(path, **{key: value[:0] for key, value in good.items()})
    with pytest.raises(BadFileError, match="images: is uint8"):
        read_golden(path)


def test_golden_pictures_that_would_execute_code_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))  # type: ignore[return-value]

    path = str(tmp_path / "golden.npz")
    np.savez(path, images=np.array([Evil()], dtype=object))
    with pytest.raises(BadFileError, match="is not a readable set of golden pictures"):
        read_golden(path)
    assert not (tmp_path / "executed").exists()
