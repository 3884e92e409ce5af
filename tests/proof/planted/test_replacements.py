"""Planted bugs stand where the product's code stands: one that cannot be called so would be found as an error, whatever
it does."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from proof.planted import PLANTED

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def functions() -> Iterator[Any]:
    """The function that each bug puts in the place of another, and that one."""
    for name, bug in PLANTED.items():
        for owner, attribute, instead in bug.replacements():
            replaced = getattr(owner, attribute)
            if inspect.isfunction(replaced) and inspect.isfunction(instead):
                yield pytest.param(replaced, instead, id=f"{name}-{attribute}")


@pytest.mark.parametrize(("replaced", "instead"), list(functions()))
def test_a_planted_bug_is_called_as_what_it_replaces(replaced: Any, instead: Any) -> None:
    parameters = inspect.signature(instead).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return
    taken = sum(each.kind in POSITIONAL for each in parameters)
    given = sum(each.kind in POSITIONAL for each in inspect.signature(replaced).parameters.values())
    assert taken == given, f"{replaced.__qualname__} takes {given} arguments"
