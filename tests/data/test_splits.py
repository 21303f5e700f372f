from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.data.pictures import PictureSet, from_arrays
from edgevit.data.splits import shuffled, split_off, stratified_subset
from edgevit.errors import InputError


def pictures_of(*counts: int) -> PictureSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    return from_arrays(np.zeros((len(labels), 1, 1), np.uint8), labels.tolist())


def counts_of(pictures: PictureSet, classes: int) -> list[int]:
    return np.bincount(pictures.labels, minlength=classes).tolist()


def test_every_class_gives_its_share_to_every_part() -> None:
    rest, val, test = split_off(pictures_of(100, 50, 10), [0.1, 0.1], 0, "abc", "here")
    assert [counts_of(part, 3) for part in (rest, val, test)] == [[80, 40, 8], [10, 5, 1], [10, 5, 1]]


def test_a_small_class_gives_one_picture_to_each_part() -> None:
    rest, val, test = split_off(pictures_of(3, 30), [0.1, 0.1], 0, "ab", "here")
    assert [counts_of(part, 2) for part in (rest, val, test)] == [[1, 24], [1, 3], [1, 3]]


@given(st.lists(st.integers(6, 40), min_size=2, max_size=5), st.integers(0, 99), st.sampled_from([0.05, 0.2, 0.3]))
def test_parts_are_disjoint_and_together_are_all(counts, seed, fraction) -> None:
    pictures = pictures_of(*counts)
    parts = split_off(pictures, [fraction, fraction], seed, "abcde"[: len(counts)], "here")
    names = [name for part in parts for name in part.names]
    assert sorted(names) == sorted(pictures.names)
    assert all(min(counts_of(part, len(counts))) >= 1 for part in parts)


def test_a_seed_fixes_the_split_and_another_changes_it() -> None:
    splits = [split_off(pictures_of(50, 50), [0.2], seed, "ab", "here")[1].names for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_too_few_pictures_to_split_names_the_class_and_the_least() -> None:
    with pytest.raises(InputError, match="here: class 'b' has 2 pictures, and a split into 3 parts takes at least 3"):
        split_off(pictures_of(10, 2), [0.1, 0.1], 0, "ab", "here")


def test_a_part_never_takes_the_last_picture_of_a_class() -> None:
    rest, val, test = split_off(pictures_of(4, 5), [0.45, 0.45], 0, "ab", "here")  # 2 and 2 of 4 would leave none
    assert [counts_of(part, 2) for part in (rest, val, test)] == [[1, 1], [1, 2], [2, 2]]


def test_a_fraction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.val_fraction: 0\.5 leaves nothing to train on"):
        split_off(pictures_of(10, 10), [0.5, 0.5], 0, "ab", "here")


def test_a_limit_keeps_the_proportions() -> None:
    assert counts_of(stratified_subset(pictures_of(60, 30, 10), 10, 0), 3) == [6, 3, 1]


def test_a_limit_keeps_one_of_a_rare_class() -> None:
    assert counts_of(stratified_subset(pictures_of(990, 9, 1), 10, 0), 3) == [8, 1, 1]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 200), st.integers(0, 9))
def test_a_limit_is_met_exactly_and_takes_no_picture_twice(counts, limit, seed) -> None:
    subset = stratified_subset(pictures_of(*counts), limit, seed)
    assert len(subset) == min(limit, sum(counts))
    assert len(set(subset.names)) == len(subset)
    if limit >= len(counts):
        assert min(counts_of(subset, len(counts))) >= 1


@pytest.mark.parametrize("limit", [None, 7, 100])
def test_no_limit_and_a_generous_one_take_all(limit) -> None:
    pictures = pictures_of(4, 3)
    assert stratified_subset(pictures, limit, 0) is pictures


def test_shuffling_keeps_the_pictures_and_mixes_the_classes() -> None:
    pictures = shuffled(pictures_of(50, 50), seed=3)
    assert sorted(pictures.names) == sorted(pictures_of(50, 50).names)
    assert 5 < pictures.labels[:50].sum() < 45
    assert pictures.names == shuffled(pictures_of(50, 50), seed=3).names
