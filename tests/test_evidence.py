from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from digits_shop import digits, digits_evidence, vit_subject

from edgevit.assemble import Evidence, gather_evidence
from edgevit.data.pictures import PictureSet, from_arrays
from edgevit.errors import InputError
from edgevit.recipe import ExportSpec


def given_pictures(count: int) -> PictureSet:
    return from_arrays(np.zeros((count, 8, 8), np.uint8), [0] * count, "given")


def counts(evidence: Evidence) -> tuple[int, int, int | None, int | None]:
    judged, tested = evidence.judged, evidence.tested
    return (
        len(evidence.probes), len(evidence.calibration), None if judged is None else len(judged),
        None if tested is None else len(tested),
    )  # fmt: skip


def test_calibration_pictures_are_those_given_then_the_training_split_then_the_packages_own() -> None:
    subject, spec = vit_subject(), ExportSpec(calibration_images=20)
    given = gather_evidence(subject, digits(), spec, given_pictures(50))
    assert given.calibration_source == "the pictures given with --calibration-data"
    assert given.calibration.names == tuple(f"given {index}" for index in range(20))
    split = gather_evidence(subject, digits(), spec)
    assert split.calibration_source == "the training split of digits"
    assert split.calibration.names == digits().train.names[:20]
    bare = gather_evidence(subject, None, spec)
    assert bare.calibration_source == "sample photographs of the package, not your pictures"
    assert "astronaut 0" in bare.calibration.names


def test_probes_judges_and_tests_are_of_the_data() -> None:
    spec = ExportSpec(calibration_images=20)
    found = gather_evidence(vit_subject(), digits(), spec)
    assert counts(found) == (32, 20, 40, 40)
    assert found.probes.names == digits().val.names[:32]
    assert found.judged is digits().val
    assert found.tested is digits().test


def test_without_data_the_pictures_given_are_the_probes_and_nothing_is_judged() -> None:
    assert counts(gather_evidence(vit_subject(), None, ExportSpec(), given_pictures(50))) == (32, 50, None, None)
    assert counts(gather_evidence(vit_subject(), None, ExportSpec())) == (32, 32, None, None)


def test_random_weights_are_never_judged() -> None:
    assert counts(gather_evidence(vit_subject("random"), digits(), ExportSpec()))[2:] == (None, None)


def test_data_of_other_classes_is_refused_unless_the_model_only_numbers_its_own() -> None:
    letters = replace(digits(), classes=tuple("abcdefghij"))
    with pytest.raises(
        InputError, match=r"^tiny-vit: was made for 10 classes, and the pictures have 10: it does not know 'a'"
    ):
        gather_evidence(vit_subject(), letters, ExportSpec())
    numbered = vit_subject(labels=tuple(f"class {index}" for index in range(10)))
    assert gather_evidence(numbered, letters, ExportSpec()).judged is letters.val


@pytest.mark.parametrize(
    ("count", "confirming", "ends"),
    [(1, 10, (1, 11)), (16, 10, (16, 26)), (30, 1000, (30, 40)), (40, 10, (40, 40)), (1000, 10, (40, 40))],
)
def test_the_first_pictures_decide_and_of_the_next_some_may_confirm(
    count: int, confirming: int, ends: tuple[int, int]
) -> None:
    evidence = digits_evidence()
    fewer = evidence.judging_by(count, confirming)
    assert evidence.judged is not None
    assert fewer.judged is not None
    assert fewer.confirming is not None
    assert fewer.judged.names == evidence.judged.names[: ends[0]]
    np.testing.assert_array_equal(fewer.judged.labels, evidence.judged.labels[: ends[0]])
    assert fewer.confirming.names == evidence.judged.names[ends[0] : ends[1]]
    assert replace(fewer, judged=evidence.judged, confirming=None) == evidence
    assert fewer.tested is evidence.tested


def test_where_nothing_is_judged_nothing_decides_or_confirms() -> None:
    evidence = digits_evidence(judged=None)
    assert evidence.judging_by(3, 3) is evidence
