"""What Captum promises of every attribution, held against its own test models and targets."""

import pytest
import torch
from captum.attr import InputXGradient, NoiseTunnel, Saliency
from captum.attr import visualization as viz
from captum.metrics import infidelity, sensitivity_max
from captum.testing.attr.helpers.test_config import config
from captum.testing.helpers.basic_models import BasicModel_ConvNet

from captum_tgrad import FullGradAttribution, TGradAttribution

METHODS = [FullGradAttribution, TGradAttribution]
CASES = [case for case in config if InputXGradient in case["algorithms"]]
methods = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def _same_numbers():
    # With some weights (seed 0) all units of Captum's small network are dead, and maps are zero.
    torch.manual_seed(1)


def _arguments(case):
    """The case's arguments, without those of NoiseTunnel."""
    return {
        name: value
        for name, value in case["attribute_args"].items()
        if name in ("inputs", "target", "additional_forward_args")
    }


def _of_sample(value, sample, samples):
    if isinstance(value, torch.Tensor) and value.dim() and len(value) == samples:
        return value[sample : sample + 1]
    if isinstance(value, tuple):
        return tuple(_of_sample(item, sample, samples) for item in value)
    return value


@methods
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_kind_of_target_and_argument(method, case):
    arguments = _arguments(case)
    inputs, target = arguments["inputs"], arguments["target"]
    attributions = method(case["model"]).attribute(**arguments)
    assert isinstance(attributions, tuple) == isinstance(inputs, tuple)
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    results = attributions if isinstance(attributions, tuple) else (attributions,)
    samples = len(tensors[0])
    for sample in range(samples):
        several = isinstance(target, list) or (
            isinstance(target, torch.Tensor) and target.numel() == samples
        )
        alone = method(case["model"]).attribute(
            tuple(tensor[sample : sample + 1] for tensor in tensors),
            target=target[sample] if several else target,
            additional_forward_args=_of_sample(
                arguments.get("additional_forward_args"), sample, samples
            ),
        )
        for result, tensor, one in zip(results, tensors, alone, strict=True):
            assert result.shape == tensor.shape
            assert result.dtype == tensor.dtype
            torch.testing.assert_close(result[sample], one[0], rtol=1e-4, atol=1e-4)


@methods
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_noise_tunnel_without_noise_changes_nothing(method, case):
    arguments = _arguments(case)
    plain = method(case["model"]).attribute(**arguments)
    tunnelled = NoiseTunnel(method(case["model"])).attribute(
        **arguments, nt_samples=3, nt_samples_batch_size=1, stdevs=0.0
    )
    torch.testing.assert_close(tunnelled, plain, rtol=1e-4, atol=1e-4)


@methods
@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize("with_delta", [False, True])
def test_noise_tunnel_in_its_three_modes(method, nt_type, with_delta):
    model, inputs = BasicModel_ConvNet().eval(), torch.rand(4, 1, 10, 10)
    result = NoiseTunnel(method(model)).attribute(
        inputs,
        nt_type=nt_type,
        nt_samples=5,
        nt_samples_batch_size=1,
        stdevs=0.1,
        target=0,
        **({"return_convergence_delta": True} if with_delta else {}),
    )
    attribution = result[0] if with_delta else result
    assert attribution.shape == inputs.shape
    assert bool(attribution.isfinite().all())
    if with_delta:
        assert result[1].shape == (4 * 5,)
        assert float(result[1].abs().max()) < 1e-4


@methods
def test_infidelity_and_sensitivity(method):
    model, inputs = BasicModel_ConvNet().eval(), torch.rand(4, 1, 10, 10)
    attribution = method(model).attribute(inputs, target=0)

    def perturb(tensor):
        noise = 0.01 * torch.randn_like(tensor)
        return noise, tensor - noise

    score = infidelity(model, perturb, inputs, attribution, target=0)
    assert score.shape == (4,)
    assert bool(score.isfinite().all())
    sensitivity = sensitivity_max(method(model).attribute, inputs, target=0)
    assert sensitivity.shape == (4,)
    assert bool(sensitivity.isfinite().all())


@methods
def test_captums_own_visualization(method):
    # As in Captum's tutorials, but for the name of the class.
    torch.manual_seed(1)  # captum refuses to draw a map of zeros, which some networks have
    model, inputs = BasicModel_ConvNet().eval(), torch.rand(1, 1, 10, 10)
    attributions = method(model).attribute(inputs, target=0)
    attributions = attributions.squeeze(0).cpu().detach().numpy().transpose(1, 2, 0)
    original = inputs.squeeze(0).cpu().numpy().transpose(1, 2, 0)
    _, axes = viz.visualize_image_attr(
        attributions,
        original,
        method="heat_map",
        sign="positive",
        show_colorbar=True,
        use_pyplot=False,
    )
    assert axes.images
    _, several = viz.visualize_image_attr_multiple(
        attributions,
        original,
        ["original_image", "heat_map"],
        ["all", "positive"],
        show_colorbar=True,
        use_pyplot=False,
    )
    assert len(several) == 2


def test_the_input_term_is_captums_input_x_gradient():
    model, inputs = BasicModel_ConvNet().eval(), torch.rand(3, 1, 10, 10)
    product = InputXGradient(model).attribute(inputs, target=1)
    term = TGradAttribution(model).decompose(inputs, target=1).input
    torch.testing.assert_close(term.score, product.detach().sum((1, 2, 3)))
    torch.testing.assert_close(term.positive, product.detach().clamp(min=0))


def test_reports_a_convergence_delta_and_a_name():
    method = TGradAttribution(BasicModel_ConvNet())
    assert method.has_convergence_delta()
    assert method.multiplies_by_inputs is True
    assert method.get_name() == "T Grad Attribution"
    assert isinstance(method.gradient_func, type(Saliency(BasicModel_ConvNet()).gradient_func))
