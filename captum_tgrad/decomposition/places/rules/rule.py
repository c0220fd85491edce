"""A rule for the places of what an operation returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from captum_tgrad.decomposition.places.places import Places

if TYPE_CHECKING:
    from captum_tgrad.decomposition.call import Call
    from captum_tgrad.decomposition.places.movement import Moved


class Effect(Enum):
    """What an operation does with elements that are constants or masked."""

    MIXES = auto()
    """It computes new elements, none of which is a constant."""
    KEEPS_CONSTANTS = auto()
    """It returns constants where its arguments are constants."""
    ELEMENTWISE = auto()
    """It does the same to each element of tensors that broadcast."""
    MOVES = auto()
    """It moves elements, and their masks with them."""
    WRITES = auto()
    """It moves elements and overwrites or leaves out some of them."""


@dataclass(frozen=True)
class PlacesRule:
    """A rule for the places of what an operation returns.

    Args:
        find: Computes the places from those of the arguments. It may raise NoRuleError.
        effect: What the operation does with constants and masked elements.
        is_cached: Whether to store the results. They must not depend on other values than constant
            indices, nor on the layout of memory. It is not worth it for a fast rule.
        added: The argument that is added to a product. Its zeros select nothing.
        mover: Returns how a call moves elements, and the arguments that it moves, for operations
            that cannot run on masks, because they depend on values or memory, or need not run.
    """

    find: Callable[[Call], list[Places]]
    effect: Effect = Effect.MIXES
    is_cached: bool = True
    added: str = ""
    mover: Callable[[Call], Moved] | None = None

    def __call__(self, call: Call) -> list[Places]:
        """The places of each result of a call."""
        return self.find(call)


def places_rule(
    effect: Effect = Effect.MIXES,
    *,
    is_cached: bool = True,
    added: str = "",
    mover: Callable[[Call], Moved] | None = None,
) -> Callable[[Callable[[Call], list[Places]]], PlacesRule]:
    """Makes a rule of a function that computes places; see :class:`PlacesRule`."""
    return lambda find: PlacesRule(find, effect, is_cached, added, mover)


NO_RULE = PlacesRule(lambda call: [])
"""The rule of operations without one."""
