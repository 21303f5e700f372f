import sys
from types import ModuleType

import pytest

from edgevit.errors import MissingExtraError
from edgevit.models import torchvision_ops
from edgevit.models.torchvision_ops import import_timm


class FakeImports:
    """importlib.import_module that fails for torchvision with the given errors, one a call, and then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked: list[str] = []

    def __call__(self, name: str) -> ModuleType:
        self.asked.append(name)
        if name == "torchvision" and self.failures:
            raise self.failures.pop(0)
        return ModuleType(name)


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for the real declaration, which a process can make only once."""
    calls: list[str] = []
    monkeypatch.setattr(torchvision_ops, "_declared", [])
    monkeypatch.setattr(torchvision_ops, "_declare_operators", lambda: calls.append("declared"))
    monkeypatch.setattr(torchvision_ops, "_forget_torchvision", lambda: calls.append("forgotten"))
    return calls


def use(monkeypatch: pytest.MonkeyPatch, imports: FakeImports) -> None:
    monkeypatch.setattr(torchvision_ops.importlib, "import_module", imports)


def test_timm_is_imported_and_knows_its_models() -> None:
    timm = import_timm()
    assert timm.is_model("deit_tiny_patch16_224")
    assert import_timm() is timm


def test_compiled_operators_are_left_alone(monkeypatch: pytest.MonkeyPatch, declared: list[str]) -> None:
    imports = FakeImports()
    use(monkeypatch, imports)
    assert import_timm().__name__ == "timm"
    assert (declared, imports.asked) == ([], ["torchvision", "timm"])


def test_missing_operators_are_declared_and_the_import_tried_again(
    monkeypatch: pytest.MonkeyPatch, declared: list[str]
) -> None:
    imports = FakeImports(RuntimeError("operator torchvision::nms does not exist"))
    use(monkeypatch, imports)
    assert import_timm().__name__ == "timm"
    assert declared == ["declared", "forgotten"]
    assert imports.asked == ["torchvision", "torchvision", "timm"]


def test_another_failure_of_torchvision_is_not_hidden(monkeypatch: pytest.MonkeyPatch, declared: list[str]) -> None:
    use(monkeypatch, FakeImports(RuntimeError("CUDA is on fire")))
    with pytest.raises(RuntimeError, match="CUDA is on fire"):
        import_timm()
    assert declared == []


def test_a_half_imported_torchvision_is_forgotten_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: ModuleType(name) for name in ("torchvision", "torchvision.extension", "torchvisionary", "torch")}
    monkeypatch.setattr(torchvision_ops.sys, "modules", modules)
    torchvision_ops._forget_torchvision()
    assert set(modules) == {"torchvisionary", "torch"}


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        import_timm()
    message = f"This needs the package '{package}'. Install it with: pip install 'edgevit[train]'"
    assert (str(caught.value), caught.value.exit_code) == (message, 2)
