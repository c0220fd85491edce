"""Tiny networks, one for every kind of operation that a decomposition handles.

Every network runs each of its operations as a leaf module, the form that
``tests.reference`` needs. Many have a twin that shares its parameters and writes the
same computation with functions, operators and in-place operations, as real models do.

    from tests.networks import each_network

    @each_network
    def test_something(tiny):
        network = tiny.build()
        twin = tiny.functional and tiny.functional(network)
        ... tiny.inputs, tiny.target

Each family has a file of its own, with a list ``NETWORKS``. ``torchvision_models`` has the
large ones.
"""

import pytest

from tests.networks import (
    activations,
    branches,
    constants,
    convolutional,
    convolutions,
    input_shapes,
    normalizations,
    pooling_and_resizing,
    transformers,
)
from tests.networks.tiny_network import TinyNetwork

__all__ = ["FAMILIES", "TINY_NETWORKS", "TinyNetwork", "each_network"]

FAMILIES = (
    activations,
    convolutions,
    normalizations,
    pooling_and_resizing,
    constants,
    convolutional,
    branches,
    transformers,
    input_shapes,
)

TINY_NETWORKS = {tiny.id: tiny for family in FAMILIES for tiny in family.NETWORKS}
"""All of them, by their ids."""

each_network = pytest.mark.parametrize("tiny", TINY_NETWORKS.values(), ids=TINY_NETWORKS)
"""Runs a test with every tiny network as ``tiny``."""
