"""The blur, along any number of dimensions, and the baselines that need positions."""

import numpy as np
import pytest
import torch

from captum_tgrad.metrics import blur, mean_color
from tests.metrics.models import random


def test_signals_and_volumes_are_blurred_along_all_their_dimensions():
    signal = torch.zeros(1, 1, 9).double()
    signal[..., 4] = 1
    line = blur(5, 1.0)(signal)[0, 0]
    assert line.sum().item() == pytest.approx(1)
    volume = torch.zeros(1, 1, 9, 9, 9).double()
    volume[..., 4, 4, 4] = 1
    expected = torch.einsum("i,j,k->ijk", line, line, line)
    torch.testing.assert_close(blur(5, 1.0)(volume)[0, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [7, 2048, 2049, 5000])
def test_lines_of_any_length_are_blurred(length):
    line = random(2, 3, length)
    delta = torch.zeros(1, 1, 11).double()
    delta[..., 5] = 1
    kernel = blur(11, 5)(delta)[0, 0].numpy()  # held against scipy in test_rise
    expected = [np.convolve(row, kernel)[5 : 5 + length] for row in line.flatten(0, 1).numpy()]
    expected = torch.from_numpy(np.stack(expected)).reshape(line.shape)
    torch.testing.assert_close(blur(11, 5)(line), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [9, 2049])
def test_a_blur_is_as_precise_under_autocast(length):
    lines = random(1, 1, length, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = blur(5, 2)(lines)
    torch.testing.assert_close(found, blur(5, 2)(lines), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_blur_keeps_the_dtype_and_one_of_a_single_pixel_everything(dtype):
    inputs = random(2, 3, 4, 5).to(dtype)
    torch.testing.assert_close(blur(1, 2)(inputs), inputs)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((4, 1.0), "kernel_size"),
        ((-1, 1.0), "kernel_size"),
        ((3.0, 1.0), "kernel_size"),
        ((5, 0), "sigma"),
        ((3, torch.inf), "sigma must be positive and"),
    ],
)
def test_invalid_arguments_of_blur(arguments, name):
    with pytest.raises(ValueError, match=name):
        blur(*arguments)


def test_sigma_must_be_a_number():
    with pytest.raises(TypeError, match="sigma must be a number, got str"):
        blur(3, "1")


@pytest.mark.parametrize("baseline", [blur(), mean_color])
@pytest.mark.parametrize("inputs", [torch.ones(2, 3), torch.ones(1, 3, 4, 4).int()])
def test_baselines_that_need_places(baseline, inputs):
    with pytest.raises(ValueError, match="such as 0"):
        baseline(inputs)
