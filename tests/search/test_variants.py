"""Several models in one search: what the axes mean for each of them."""

from __future__ import annotations

import optuna
import pytest
from arithmetic_bench import SPACE, constant_schedule

from edgevit.policy import Policy
from edgevit.search.seeds import MOST_OF_SEVERAL, seeds
from edgevit.search.space import SearchSpace, policy_of
from edgevit.search.trials import Variant
from edgevit.search.variants import axes, encoded, suggest, variant_of

VIT = SearchSpace(image_sizes=(224, 192, 160), linear=("fp32", "int8-dynamic"), equalize=(False,))
CNN = SearchSpace(image_sizes=(256, 192), conv=("fp32", "int8-static"), equalize=(False, True))
BOTH = {"vit": VIT, "cnn": CNN}


def test_one_model_has_no_axis_of_models():
    assert [axis.name for axis in axes({"": VIT})] == ["image_size", "linear"]


def test_several_models_have_the_axes_of_all_and_sizes_by_position():
    found = {axis.name: axis.choices for axis in axes(BOTH)}
    assert found == {
        "model": ("vit", "cnn"),
        "image_size": (0, 1, 2),
        "linear": ("fp32", "int8-dynamic"),
        "conv": ("fp32", "int8-static"),
        "equalize": (False, True),
    }


@pytest.mark.parametrize(
    ("values", "variant"),
    [
        ({"model": "vit", "image_size": 2}, Variant("vit", Policy(image_size=160))),
        ({"model": "cnn", "image_size": 0}, Variant("cnn", Policy())),
        ({"model": "cnn", "image_size": 2}, Variant("cnn", Policy(image_size=192))),  # it has two sizes only
        ({"model": "cnn", "linear": "int8-dynamic"}, Variant("cnn", Policy())),
        (
            {"model": "vit", "conv": "int8-static", "linear": "int8-dynamic"},
            Variant("vit", Policy(linear="int8-dynamic")),
        ),
        (
            {"model": "cnn", "conv": "int8-static", "equalize": True},
            Variant("cnn", Policy(conv="int8-static", equalize=True)),
        ),
        ({}, Variant("vit", Policy())),
    ],
)  # fmt: skip
def test_what_a_model_lacks_has_no_effect_on_it(values, variant):
    assert variant_of(values, BOTH, constant_schedule) == variant


@pytest.mark.parametrize("spaces", [{"": SPACE}, {"a": SPACE, "b": VIT, "c": CNN}])
def test_a_trial_with_encoded_parameters_suggests_their_variant(spaces):
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study()
    for variant, parameters in seeds(spaces, constant_schedule):
        study.enqueue_trial(encoded(variant.model, parameters, spaces))
        assert suggest(study.ask(), spaces, constant_schedule) == variant
        assert variant.policy == policy_of(parameters, spaces[variant.model], constant_schedule)


def test_models_take_turns_with_their_seeds_and_share_the_number():
    found = seeds({"a": SPACE, "b": SPACE, "c": SPACE}, constant_schedule)
    assert [seed.variant.model for seed in found] == ["a", "b", "c"] * (MOST_OF_SEVERAL // 3)
    assert [seed.variant.policy.precision for seed in found[:6]] == ["fp32"] * 3 + ["int8-dynamic"] * 3
    assert len({seed.variant.key for seed in found}) == len(found)


def test_a_model_whose_seeds_are_at_an_end_leaves_the_turns_to_the_others():
    found = seeds({"vit": VIT, "cnn": CNN, "all": SPACE}, constant_schedule)
    assert [seed.variant.model for seed in found].count("vit") == 2 * 2  # fp32 and dynamic, at two sizes
    assert len(found) == MOST_OF_SEVERAL


def test_the_same_policy_of_another_model_is_another_variant():
    assert Variant("a", Policy()).key != Variant("b", Policy()).key
    assert Variant("", Policy(rewrites=("x", "y"))).key == Variant("", Policy(rewrites=("y", "x"))).key
