"""Average Drop and Increase in Confidence on hand-made cases."""

import pytest
import torch

from captum_tgrad.metrics import average_drop, increase_in_confidence, mean_color
from tests.metrics.every_metric import tensors_of
from tests.metrics.models import classifier, linear, permutation, random


def test_by_hand():
    # Scaled maps: (1, 0.5, 0), (0, 1, 0.25). Y = 1+2+3 = 6 and 3+2+1 = 6 times weights (1, 2, 3):
    # sample 0: Y = 14, O = 1 + 0.5 * 4 + 0 = 3; sample 1: Y = 3 + 4 + 3 = 10, O = 4 + 0.75 = 4.75.
    model = linear([1.0, 2.0, 3.0])
    inputs = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]).double()
    maps = torch.tensor([[7.0, 5.0, 3.0], [-1.0, 3.0, 0.0]]).double()
    result = average_drop(model, inputs, maps)
    assert result.clean_score.tolist() == [14, 10]
    assert result.masked_score.tolist() == [3, 4.75]
    assert result.drop.tolist() == pytest.approx([100 * 11 / 14, 52.5], abs=1e-10)
    assert result.average_drop.item() == pytest.approx((100 * 11 / 14 + 52.5) / 2, abs=1e-10)
    assert increase_in_confidence(model, inputs, maps).increase.tolist() == [0, 0]


def test_a_rise_is_no_negative_drop():
    # Without its last feature, which counts against it, sample 0 rises from 1 to 3.
    model, maps = linear([3.0, -2.0]), torch.tensor([[1.0, 0.0]]).double()
    inputs = torch.tensor([[1.0, 1.0], [1.0, 0.0], [2.0, 1.0]]).double()
    maps = maps.expand(3, -1)
    result = average_drop(model, inputs, maps)
    assert result.drop.tolist() == [0, 0, 0]
    rises = increase_in_confidence(model, inputs, maps)
    assert rises.increase.tolist() == [100, 0, 100]  # equal is no increase
    assert rises.increase_in_confidence.item() == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("baselines", "masked"),
    # The map keeps the first place whole, half of the second, nothing of the third.
    [
        (None, [2 + 0.5 * 4 + 0]),
        (10, [2 + (0.5 * 4 + 5) + 10]),
        (torch.tensor([[[1.0, 2.0, 3.0]]]), [2 + 0.5 * 4 + 0.5 * 2 + 3]),
        (mean_color, [2 + (0.5 * 4 + 0.5 * 4) + 4]),
        (lambda x: -x, [2 + 0 - 6]),
    ],
)
def test_baselines_replace_the_masked_part(baselines, masked):
    inputs = torch.tensor([[[2.0, 4.0, 6.0]]]).double()
    maps = torch.tensor([[[2.0, 1.0, 0.0]]])
    result = increase_in_confidence(linear([1.0, 1.0, 1.0]), inputs, maps, baselines)
    assert result.masked_score.tolist() == masked


def test_masking_pixels_is_masking_with_the_normalized_black():
    pixels = random(2, 3, 6, 6).abs()
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    mean, std = mean.double().reshape(1, 3, 1, 1), std.double().reshape(1, 3, 1, 1)
    model, maps = classifier(), permutation(2, 1, 6, 6)
    target = model((pixels - mean) / std).argmax(1)
    expected = average_drop(lambda x: model((x - mean) / std), pixels, maps, target=target)
    found = average_drop(model, (pixels - mean) / std, maps, -mean / std)
    torch.testing.assert_close(found.drop, expected.drop, rtol=0, atol=1e-10)
    plain = average_drop(model, (pixels - mean) / std, maps)
    assert (plain.drop - found.drop).abs().max() > 1


def test_the_class_is_the_predicted_one():
    model, inputs, maps = classifier(), random(3, 3, 6, 6), permutation(3, 1, 6, 6)
    target = model(inputs).argmax(1)
    assert len(target.unique()) > 1
    found, expected = (average_drop(model, inputs, maps, target=t) for t in (None, target))
    assert torch.equal(found.masked_score, expected.masked_score)
    assert (found.protocol["target"], expected.protocol["target"]) == ("predicted", "given")


def test_several_inputs_are_scaled_together_and_none_is_not_masked():
    inputs = tuple(torch.ones(2, *size).double() for size in [(2,), (2,), (1,), ()])
    maps = (torch.tensor([[0.0, 1.0]] * 2), torch.tensor([[2.0, 4.0]] * 2), None, torch.ones(2))

    def model(a, b, c, d):
        return a[:, 0] + 10 * a[:, 1] + 100 * b[:, 0] + 1000 * b[:, 1] + c[:, 0] + 1e4 * d

    result = average_drop(model, inputs, maps)
    assert result.masked_score.tolist() == [0.25 * 10 + 0.5 * 100 + 1000 + 1 + 0.25 * 1e4] * 2


METRICS = [average_drop, increase_in_confidence]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integers_cannot_be_masked(metric, dtype):
    inputs, maps = torch.ones(2, 3, dtype=dtype), torch.tensor([[0.0, 1.0, 2.0]] * 2)

    def model(*inputs):
        raise AssertionError("this is known before the model is run")

    with pytest.raises(TypeError, match=rf"^inputs has dtype {dtype}.* inputs\.float\(\)"):
        metric(model, inputs, maps)
    with pytest.raises(TypeError, match=r"^inputs\[1\] has dtype .*None as its attributions"):
        metric(model, (inputs.double(), inputs), (maps, maps))


@pytest.mark.parametrize("metric", METRICS)
def test_integers_can_stay_as_they_are(metric):
    numbers, integers = torch.tensor([[2.0, 4.0]]).double(), torch.tensor([[10, 20]])
    maps = (torch.tensor([[1.0, 0.0]]), None)
    result = metric(lambda a, b: a.sum(1) + b.sum(1), (numbers, integers), maps)
    assert (result.clean_score.tolist(), result.masked_score.tolist()) == ([36], [32])


def test_complex_numbers_are_masked():
    inputs, maps = torch.tensor([[2 + 1j, 4, 6j]]), torch.tensor([[2.0, 1.0, 0.0]])
    result = average_drop(lambda x: (x.real + x.imag).sum(1), inputs, maps)
    assert (result.clean_score.tolist(), result.masked_score.tolist()) == ([13], [3 + 0.5 * 4])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_map_is_left_out_whatever_the_model_makes_of_it(metric, value):
    # This model does not look at the feature that the map is broken at.
    maps = torch.tensor([[1.0, 2.0, 3.0], [value, 2.0, 3.0]])
    result = metric(
        lambda x: x[:, 1:].nan_to_num().sum(1), torch.ones(2, 3), maps, 0.5, nan_policy="omit"
    )
    assert result.clean_score.tolist() == [2, 2]
    assert result.masked_score.isnan().tolist() == [False, True]
    mean, each_sample, *_ = tensors_of(result)
    assert each_sample.isnan().tolist() == [False, True]
    assert not mean.isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_where_the_map_is_1_the_input_is_not_rounded(dtype):
    inputs = (random(2, 3, 8, 8) * 0.1).to(dtype)
    maps = torch.ones(2, 1, 8, 8)
    maps[:, :, 0, 0] = 0
    seen = []

    def model(x):
        seen.append(x.clone())
        return x.float().abs().mean((1, 2, 3))

    average_drop(model, inputs, maps, 1000)
    assert torch.equal(seen[-1].flatten(2)[..., 1:], inputs.flatten(2)[..., 1:])
    assert (seen[-1][..., 0, 0] == 1000).all()


def test_a_constant_map_masks_everything_and_says_so():
    maps = torch.tensor([[3.0, 3.0], [1.0, 0.0]])
    with pytest.warns(UserWarning, match=r"everything is masked. Constant: attributions, sample 0"):
        result = average_drop(linear([1.0, 1.0]), torch.ones(2, 2).double(), maps)
    assert result.drop.tolist() == [100, 50]


def test_a_constant_coarse_map_masks_everything():
    inputs, maps = torch.ones(1, 1, 227, 227), torch.full((1, 1, 13, 13), 0.1)
    with pytest.warns(UserWarning, match="Constant: attributions, sample 0"):
        result = average_drop(lambda x: x.mean((1, 2, 3)), inputs, maps)
    assert result.drop.tolist() == [100]


def test_the_drop_of_a_score_that_is_not_positive_is_undefined():
    model, inputs = linear([1.0, 1.0]), torch.tensor([[1.0, 1.0], [-3.0, 1.0]]).double()
    maps = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"sample 1 is not positive.*-2.*\.sigmoid\(\) or"):
        average_drop(model, inputs, maps)
    with pytest.raises(ValueError, match=r"sample 1 is not positive.*-2.*score='softmax' or"):
        average_drop(
            lambda x: torch.stack([model(x)] * 2, 1), inputs, maps, target=0, score="logit"
        )
    result = average_drop(model, inputs, maps, nan_policy="omit")
    assert result.drop.isnan().tolist() == [False, True]
    assert result.average_drop.item() == 50
    assert increase_in_confidence(model, inputs, maps).increase.tolist() == [0, 0]


@pytest.mark.parametrize("ends_in_a_softmax", [False, True])
def test_a_probability_that_is_rounded_to_0_needs_another_target(ends_in_a_softmax):
    logits = torch.tensor([[200.0, 0.0]])
    outputs = logits.softmax(1) if ends_in_a_softmax else logits
    with pytest.raises(ValueError, match="Pass another target or, to get NaN"):
        average_drop(lambda x: outputs, torch.ones(1, 2), torch.eye(2)[:1], target=1)
