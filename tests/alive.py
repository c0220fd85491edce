"""Tensors that stay alive after a call."""

import gc
import weakref
from collections.abc import Callable

from torch import Tensor


def tensors_left_by(call: Callable[[], object], times: int = 3) -> list[tuple[int, ...]]:
    """The shapes of tensors that calls leave behind, without garbage collection.

    The first call is not counted: what it keeps for later calls may stay.
    """
    call()
    gc.collect()
    gc.freeze()  # so that only what is new is looked at, which takes no time
    gc.disable()
    try:
        for _ in range(times):
            call()
        left = [weakref.ref(thing) for thing in gc.get_objects() if isinstance(thing, Tensor)]
    finally:
        gc.enable()
        gc.unfreeze()
    return [tuple(each().shape) for each in left if each() is not None]
