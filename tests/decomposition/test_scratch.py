"""Memory that is lent is laid out as what asks for it, and is the same each time."""

import pytest
import torch

from captum_tgrad.decomposition.scratch import Scratch

IMAGE = torch.rand(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("tensor", "strides"),
    [
        (IMAGE, (60, 20, 5, 1)),
        (IMAGE.contiguous(memory_format=torch.channels_last), (60, 1, 15, 3)),
        (IMAGE.permute(1, 0, 3, 2), (20, 60, 1, 5)),
        (IMAGE[:, :2], (40, 20, 5, 1)),
        (IMAGE[:1].expand(2, 3, 4, 5), (60, 20, 5, 1)),
    ],
)
def test_memory_is_laid_out_alike_without_gaps(tensor, strides):
    lent = Scratch(1000).like(tensor, torch.float64)
    assert lent.shape == tensor.shape
    assert lent.dtype == torch.float64
    assert lent.stride() == strides
    torch.testing.assert_close(torch.mul(tensor, 2.0, out=lent), (2.0 * tensor).double())


def test_memory_is_used_again():
    scratch = Scratch(1000)
    first = scratch.like(IMAGE, torch.float32)
    assert scratch.like(IMAGE, torch.float32).data_ptr() == first.data_ptr()
    assert scratch.like(IMAGE[:1], torch.float32).data_ptr() == first.data_ptr()
    assert scratch.like(IMAGE, torch.float64).data_ptr() != first.data_ptr()


def test_memory_for_large_products_is_not_kept():
    assert Scratch(119).like(IMAGE, torch.float32) is None
    assert Scratch(120).like(IMAGE, torch.float32) is not None
