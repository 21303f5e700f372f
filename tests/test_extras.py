from __future__ import annotations

import sys

import numpy
import pytest

from edgevit.errors import MissingExtraError
from edgevit.extras import EXTRAS, installed_versions, require_extras


def test_what_is_installed_is_not_missed() -> None:
    require_extras("train", "export")


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_the_first_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    first, second = EXTRAS[extra][:2]
    monkeypatch.setitem(sys.modules, second, None)
    words = rf"^This needs the package '{second}'\. Install it with: pip install 'edgevit\[{extra}\]'$"
    with pytest.raises(MissingExtraError, match=words):
        require_extras(extra)
    monkeypatch.setitem(sys.modules, first, None)
    with pytest.raises(MissingExtraError, match=rf"'{first}'"):
        require_extras(extra)


def test_versions_are_of_what_is_installed() -> None:
    assert installed_versions(["numpy", "no-such-package-here"]) == {"numpy": numpy.__version__}
