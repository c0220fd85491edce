"""What a classifier is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from captum_tgrad.zoo.preprocessing import Preprocessing


class Recipe(NamedTuple):
    """A network that is not built yet, with its weights and preprocessing.

    Attributes:
        build: From the number of classes to the network.
        state_dict: The weights.
        source: The file or address of the weights, for messages.
        preprocessing: The preprocessing, with the center crop.
        class_names: The names of the classes that it was published for.
    """

    build: Callable[[int], nn.Module]
    state_dict: Mapping[str, Tensor]
    source: str | Path
    preprocessing: Preprocessing
    class_names: Sequence[str]
