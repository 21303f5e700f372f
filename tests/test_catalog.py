from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgevit import catalog
from edgevit.catalog import find_recipe, list_devices, list_recipes, load_device, load_recipe
from edgevit.errors import BadFileError, EdgevitError, UnknownNameError

CHECKOUT = Path(__file__).parents[1]
RECIPE = "name: demo\nmodel: {name: vit}\ndata: {source: digits}\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package as a wheel installs it, with one device and one recipe."""
    package = tmp_path / "site-packages" / "edgevit"
    (package / "_catalog" / "devices").mkdir(parents=True)
    (package / "_catalog" / "recipes").mkdir()
    shutil.copy(CHECKOUT / "devices" / "rpi5.yaml", package / "_catalog" / "devices")
    (package / "_catalog" / "recipes" / "demo.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setattr(catalog, "PACKAGE", package)
    return package


def test_a_checkout_is_searched_beside_the_package():
    assert {"rpi5", "jetson-orin-nano", "x86-n100"} <= set(list_devices())


def test_local_is_listed_last():
    assert list_devices()[-1] == "local"
    assert list(list_devices()[:-1]) == sorted(list_devices()[:-1])


def test_an_installed_wheel_is_searched_inside_the_package(installed):
    assert list_devices() == ("rpi5", "local")
    assert load_device("rpi5").title == "Raspberry Pi 5 (8 GB)"
    assert list_recipes() == ("demo",)
    assert find_recipe("demo") == installed / "_catalog" / "recipes" / "demo.yaml"
    assert load_recipe("demo").name == "demo"


def test_the_wheels_own_folders_go_before_strangers_in_site_packages(installed):
    (installed.parent / "devices").mkdir()
    (installed.parent / "devices" / "stranger.yaml").write_text("", encoding="utf-8")

    assert list_devices() == ("rpi5", "local")


def test_an_installation_without_its_folders_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path / "edgevit")

    with pytest.raises(EdgevitError, match="folder 'devices' is missing from this installation"):
        list_devices()


def test_an_unknown_device_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        load_device("rpi-5")

    assert str(caught.value) == (
        f"Unknown device 'rpi-5'. Did you mean 'rpi5'? Run 'edgevit devices' to see all {len(list_devices())}."
    )


def test_an_unknown_recipe_is_answered_with_the_nearest(installed):
    with pytest.raises(UnknownNameError) as caught:
        find_recipe("dmeo")

    assert str(caught.value) == "Unknown recipe 'dmeo'. Did you mean 'demo'? Run 'edgevit recipes' to see all 1."


@pytest.mark.parametrize("name", ["", "..", ".hidden"])
def test_a_name_is_never_taken_for_another_file(name):
    with pytest.raises(UnknownNameError, match="Unknown device"):
        load_device(name)


def test_local_is_this_machine():
    assert load_device("local").name == "local"


def test_a_path_is_read_as_it_is(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text((CHECKOUT / "devices" / "rpi4.yaml").read_text(encoding="utf-8"), encoding="utf-8")

    assert load_device(str(path)).name == "rpi4"
    assert find_recipe(str(path)) == path


def test_a_path_that_is_not_there_is_a_bad_file(tmp_path):
    with pytest.raises(BadFileError, match=r"none\.yaml: no such file\. Check the path\."):
        load_device(str(tmp_path / "none.yaml"))
    with pytest.raises(BadFileError, match=r"none\.yaml: no such file\. Check the path\."):
        load_recipe(str(tmp_path / "none.yaml"))


def test_a_path_that_is_the_name_of_a_known_recipe_is_answered_with_it(installed):
    with pytest.raises(BadFileError) as caught:
        find_recipe("demo.yaml")

    assert str(caught.value) == "demo.yaml: no such file. Did you mean the recipe 'demo' that comes with edgevit?"
