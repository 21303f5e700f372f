"""Variants: the spaces of one or several models as a single one, and how a storage and a sampler see it.

A choice of an ordered dimension is kept as its position, and one of another as it is. So position 0 of 'image_size' is
each model's own size, and what is learned from one model's next smaller size is learned about another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from edgevit.search.space import Choice, Dimension, Parameters, Schedule, SearchSpace, every_dimension, policy_of
from edgevit.search.trials import Variant

MODEL = "model"

Spaces = Mapping[str, SearchSpace]  # by the model's name, which is '' where there is only one
Encoded = Mapping[str, Choice]


def axes(spaces: Spaces) -> tuple[Dimension, ...]:
    """What there is to choose among all models, the model first; choices as they are encoded."""
    by_name: dict[str, list[Dimension]] = {}
    for space in spaces.values():
        for dimension in every_dimension(space):
            by_name.setdefault(dimension.name, []).append(dimension)
    found = (Dimension(MODEL, tuple(spaces)), *map(_united, by_name.values()))
    return tuple(dimension for dimension in found if len(dimension.choices) > 1)


def distributions(spaces: Spaces) -> dict[str, BaseDistribution]:
    """The axes as Optuna describes them."""
    return {
        name: IntDistribution(0, len(choices) - 1) if is_ordered else CategoricalDistribution(choices)
        for name, choices, is_ordered in axes(spaces)
    }


def suggest(trial: optuna.Trial, spaces: Spaces, schedule: Schedule) -> Variant:
    """The variant of a trial. Every axis is asked for in every trial, whatever it means beside the others."""
    values: dict[str, Choice] = {
        name: trial.suggest_int(name, 0, len(choices) - 1) if is_ordered else trial.suggest_categorical(name, choices)
        for name, choices, is_ordered in axes(spaces)
    }
    return variant_of(values, spaces, schedule)


def encoded(model: str, parameters: Parameters, spaces: Spaces) -> dict[str, Choice]:
    """A model's parameters as `suggest` asks for them: to enqueue a trial. What is not named is the plain value."""
    own = {dimension.name: dimension for dimension in every_dimension(spaces[model])}
    values: dict[str, Choice] = {}
    for name, choices, is_ordered in axes(spaces):
        if name == MODEL:
            values[name] = model
        elif name not in own:
            values[name] = choices[0]
        else:
            value = parameters.get(name, own[name].choices[0])
            values[name] = own[name].choices.index(value) if is_ordered else value
    return values


def variant_of(values: Encoded, spaces: Spaces, schedule: Schedule) -> Variant:
    """The variant that encoded values stand for.

    A position behind a model's last choice means that last one, and a choice that it lacks its plain one: different
    values may give equal variants.
    """
    model = str(values.get(MODEL, next(iter(spaces))))
    parameters = {
        dimension.name: _decoded(values[dimension.name], dimension)
        for dimension in every_dimension(spaces[model])
        if dimension.name in values
    }
    return Variant(model, policy_of(parameters, spaces[model], schedule))


def _united(same: Sequence[Dimension]) -> Dimension:
    """One dimension of several models, its choices encoded."""
    name, _, is_ordered = same[0]
    if is_ordered:
        return Dimension(name, tuple(range(max(len(dimension.choices) for dimension in same))), is_ordered)
    return Dimension(name, tuple(dict.fromkeys(choice for dimension in same for choice in dimension.choices)))


def _decoded(value: Choice, dimension: Dimension) -> Choice:
    if dimension.is_ordered:
        return dimension.choices[min(int(value or 0), len(dimension.choices) - 1)]
    return value if value in dimension.choices else dimension.choices[0]
