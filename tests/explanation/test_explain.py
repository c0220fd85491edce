"""What is said about an answer, against a linear classifier worked out by hand."""

import math

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_tensor

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation.compare import compare
from captum_tgrad.explanation import explain
from captum_tgrad.zoo import Classifier

FLOAT32 = {"rel": 1e-4, "abs": 1e-6}


def _linear_classifier(model: nn.Module | None = None) -> Classifier:
    """Adds up all pixel values: logits sum + 3 for "light" and -sum - 1 for "dark"."""
    if model is None:
        linear = nn.Linear(12, 2)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 12))
            linear.bias.copy_(torch.tensor([3.0, -1.0]))
        model = nn.Sequential(nn.Flatten(), linear).eval()
    return Classifier("linear", model, ("light", "dark"), to_tensor, lambda image: image)


def _grey(level: int) -> Image.Image:
    return Image.new("RGB", (2, 2), (level, level, level))


# 12 numbers of 51 / 255 = 0.2: the sum is 2.4, the logits are 5.4 and -3.4.
GRAY = _grey(51)


def test_a_softmax_in_the_network_is_not_taken_twice():
    logits = _linear_classifier()
    ending = _linear_classifier(nn.Sequential(logits.model, nn.Softmax(1)).eval())
    wanted = 1 / (1 + math.exp(-8.8))
    for each in (logits, ending):
        (explanation,) = explain(each, [GRAY])
        assert explanation.target.probability == pytest.approx(wanted, **FLOAT32)
        compared = compare(each, GRAY, ["random"], n_steps=2)
        assert compared.probability == pytest.approx(wanted, **FLOAT32)


def test_explain_the_predicted_class():
    (explanation,) = explain(_linear_classifier(), [GRAY])
    assert explanation.target.name == "light"
    assert explanation.target.probability == pytest.approx(1 / (1 + math.exp(-8.8)), **FLOAT32)
    assert [prediction.index for prediction in explanation.predictions] == [0, 1]
    assert explanation.logit == pytest.approx(5.4, **FLOAT32)
    assert explanation.input_score == pytest.approx(2.4, **FLOAT32)
    assert explanation.bias_score == pytest.approx(3.0, **FLOAT32)
    assert explanation.input_share == pytest.approx(2.4 / 5.4, **FLOAT32)
    assert explanation.bias_share == pytest.approx(3.0 / 5.4, **FLOAT32)
    assert explanation.residual == pytest.approx(0, abs=1e-5)
    # The same everywhere: 2.4 / 4 of the input, and 3 / 4 of the bias, which has no place.
    torch.testing.assert_close(explanation.attribution, torch.full((2, 2), 1.35))


def test_explain_names_the_largest_terms():
    (explanation,) = explain(_linear_classifier(), [GRAY])
    bias, inputs = explanation.largest_terms
    assert (bias.name, inputs.name) == ("1", "input")
    assert (bias.score, inputs.score) == pytest.approx((3.0, 2.4), **FLOAT32)
    assert (bias.share, inputs.share) == pytest.approx((3.0 / 5.4, 2.4 / 5.4), **FLOAT32)


@pytest.mark.parametrize("target", [1, "dark", "1"])
def test_explain_a_class_that_nothing_speaks_for(target):
    (explanation,) = explain(_linear_classifier(), [GRAY], target)
    assert explanation.target.name == "dark"
    assert explanation.predictions[0].name == "light"
    assert explanation.logit == pytest.approx(-3.4, **FLOAT32)
    assert explanation.input_score == pytest.approx(-2.4, **FLOAT32)
    assert explanation.bias_score == pytest.approx(-1.0, **FLOAT32)
    assert (explanation.input_share, explanation.bias_share) == (0, 0)
    assert not explanation.attribution.any()


def test_explain_a_batch_is_explaining_each():
    classifier = _linear_classifier()
    pictures = [GRAY, _grey(255), _grey(0)]
    together = explain(classifier, pictures)
    for picture, explanation in zip(pictures, together, strict=True):
        (alone,) = explain(classifier, [picture])
        assert explanation.image is picture
        assert explanation.logit == pytest.approx(alone.logit, **FLOAT32)
        assert explanation.input_share == pytest.approx(alone.input_share, **FLOAT32)
        torch.testing.assert_close(explanation.attribution, alone.attribution)
    # White: 12 times 1; black: nothing but the bias.
    assert [explanation.logit for explanation in together] == pytest.approx([5.4, 15, 3], **FLOAT32)


def test_explain_five_predictions_and_ten_terms_at_most():
    torch.manual_seed(0)
    layers = [nn.Flatten(), *(nn.Linear(12, 12) for _ in range(15))]
    names = tuple(f"class {index}" for index in range(12))
    classifier = Classifier("deep", nn.Sequential(*layers), names, to_tensor, lambda image: image)
    (explanation,) = explain(classifier, [GRAY])
    probabilities = [prediction.probability for prediction in explanation.predictions]
    scores = [abs(term.score) for term in explanation.largest_terms]
    assert (len(probabilities), len(scores)) == (5, 10)
    assert probabilities == sorted(probabilities, reverse=True)
    assert scores == sorted(scores, reverse=True)
    parts = explanation.input_score + explanation.bias_score + explanation.residual
    assert parts == pytest.approx(explanation.logit, **FLOAT32)


def test_explain_keeps_the_terms_of_each_where_they_are_asked_for():
    classifier = _linear_classifier()
    assert explain(classifier, [GRAY])[0].decomposition is None
    for explanation in explain(classifier, [GRAY, _grey(255)], keep_terms=True):
        whole = explanation.decomposition
        assert [term.name for term in whole.terms] == ["input", "1"]
        assert float(whole.output) == pytest.approx(explanation.logit)
        assert float(whole.input.score) == pytest.approx(explanation.input_score, **FLOAT32)
        assert whole.input.positive.shape == (1, 1, 2, 2)


def test_explain_leaves_the_network_as_it_was():
    classifier = _linear_classifier()
    linear = classifier.model[1]
    explain(classifier, [GRAY])
    assert linear.weight.grad is None
    assert linear.weight.requires_grad
    assert not classifier.model.training


def test_explain_a_network_that_overwrites_its_input():
    def normalized(image):
        return 4 * to_tensor(image) - 1

    # 3 numbers of 3, and 9 of -1 that become -0.5: the sum is 4.5, the logits are 7.5 and -5.5.
    picture = _grey(0)
    picture.putpixel((0, 0), (255, 255, 255))
    found = []
    for inplace in (False, True):
        model = nn.Sequential(nn.LeakyReLU(0.5, inplace), *_linear_classifier().model).eval()
        classifier = Classifier("linear", model, ("light", "dark"), normalized, lambda image: image)
        found += explain(classifier, [picture])
    expected, explanation = found
    assert explanation.logit == pytest.approx(7.5, **FLOAT32)
    assert explanation.input_score == pytest.approx(4.5, **FLOAT32)
    torch.testing.assert_close(explanation.attribution, expected.attribution)


@pytest.mark.parametrize("channels", [3, 1])
def test_explain_traces_once_and_has_the_map_of_the_method(channels):
    runs = []
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2), nn.Flatten()
    )
    model = nn.Sequential(model, nn.Linear(18, 2)).eval()
    model.register_forward_hook(lambda *arguments: runs.append(1))

    def preprocess(image):
        return to_tensor(image.convert("RGB" if channels == 3 else "L")) - 0.3

    classifier = Classifier("deep", model, ("light", "dark"), preprocess, lambda image: image)
    pictures = [Image.linear_gradient("L").resize((9, 9)).rotate(90 * turn) for turn in range(3)]
    found = explain(classifier, pictures, 1)
    assert len(runs) == 2  # the answer, and the terms
    inputs = torch.stack([preprocess(picture) for picture in pictures])
    maps = TGradAttribution(model).attribute(inputs, target=1).sum(1)
    for explanation, expected in zip(found, maps, strict=True):
        torch.testing.assert_close(explanation.attribution, expected.detach())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_explain_where_the_network_is():
    (on_cpu,) = explain(_linear_classifier(), [GRAY])
    classifier = _linear_classifier()
    classifier.model.cuda()
    (on_gpu,) = explain(classifier, [GRAY])
    torch.testing.assert_close(on_gpu.attribution, on_cpu.attribution)


def test_explain_what_is_read_one_after_the_other():
    found = explain(_linear_classifier(), (_grey(level) for level in (51, 102)))
    assert [each.logit for each in found] == pytest.approx([5.4, 7.8])


def test_explanations_can_be_looked_up_and_put_into_sets():
    one, other = (explain(_linear_classifier(), [GRAY], rival=True)[0] for _ in range(2))
    assert one not in [other]
    assert one.rival != other.rival
    assert len({one, other, one.rival, other.rival}) == 4


def test_explain_an_image_that_is_not_rgb():
    images = [GRAY.convert("L"), GRAY.convert("RGBA"), Image.new("RGBA", (2, 2), (9, 9, 9, 0))]
    found = explain(_linear_classifier(), images)
    assert [each.logit for each in found] == pytest.approx([5.4, 5.4, 15.0])
    assert [each.original.mode for each in found] == ["RGB"] * 3


def test_explain_refuses_no_pictures():
    with pytest.raises(ValueError, match="pass at least one image"):
        explain(_linear_classifier(), [])


def test_explain_refuses_an_unknown_target():
    with pytest.raises(ValueError, match="class 'lihgt' not found: did you mean light"):
        explain(_linear_classifier(), [GRAY], "lihgt")
    with pytest.raises(ValueError, match="class 2 not found: pass a number from 0 to 1"):
        explain(_linear_classifier(), [GRAY], 2)
    with pytest.raises(TypeError, match="index or the name"):
        explain(_linear_classifier(), [GRAY], 1.0)


class _ReturnsTuple(nn.Module):
    def forward(self, inputs):
        return inputs, inputs


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), r"shape \(1, 3\), but there are 2 class"),
        (nn.Flatten(0), r"shape \(1, 2\) for 1 images, got \(12,\)"),
        (
            _ReturnsTuple(),
            r"got tuple: wrap it in a .* whose forward returns model\(x\)\[0\]",
        ),
    ],
)
def test_explain_refuses_a_network_without_a_logit_for_each_name(model, got):
    with pytest.raises(ValueError, match=got):
        explain(_linear_classifier(model), [GRAY])
    with pytest.raises(ValueError, match=got):
        compare(_linear_classifier(model), GRAY, ["t_grad"])


def test_a_network_with_one_logit_is_explained_as_the_error_says():
    torch.manual_seed(0)
    one = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).eval()

    class Two(nn.Module):
        def forward(self, images):
            z = one(images)
            return torch.cat([-z, z], 1) / 2

    z = float(one(to_tensor(GRAY)[None]).detach())
    for index, sign in enumerate((-1, 1)):
        (found,) = explain(_linear_classifier(Two().eval()), [GRAY], index)
        assert found.target.probability == pytest.approx(1 / (1 + math.exp(-sign * z)), **FLOAT32)
        assert found.logit == pytest.approx(sign * z / 2, **FLOAT32)
