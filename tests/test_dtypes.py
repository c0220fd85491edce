"""A model in another dtype than its images: the error names both dtypes and the way out."""

import copy

import pytest
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from torch import nn

from captum_tgrad import (
    CamAttribution,
    FullGradAttribution,
    LayerTGradAttribution,
    TGradAttribution,
)
from captum_tgrad.evaluation import evaluate
from captum_tgrad.evaluation.compare import compare
from captum_tgrad.explanation import explain
from captum_tgrad.metrics import average_drop, grid_pointing_game, insertion_deletion, road
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.zoo import Classifier

X = torch.rand(2, 3, 8, 8)
CALLS = {
    "T-Grad": lambda model: TGradAttribution(model).attribute(X, 0),
    "T-Grad of a layer": lambda model: LayerTGradAttribution(model, model[1]).attribute(X, 0),
    "FullGrad": lambda model: FullGradAttribution(model).attribute(X, 0),
    "Grad-CAM": lambda model: CamAttribution(model, GradCAM).attribute(X, 0),
    "insertion_deletion": lambda model: insertion_deletion(model, X, X, n_steps=2),
    "average_drop": lambda model: average_drop(model, X, X),
    "road": lambda model: road(model, X, X),
    "cascading_randomization": lambda model: cascading_randomization(model, TGradAttribution, X),
    "grid_pointing_game": lambda model: grid_pointing_game(model, X, TGradAttribution(model)),
    "evaluate": lambda model: evaluate(model, X, ["t_grad"], n_steps=2),
    "explain": lambda model: explain(_classifier(model), [Image.new("RGB", (8, 8))]),
    "compare": lambda model: compare(_classifier(model), Image.new("RGB", (8, 8))),
}


def _model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers).eval()


def _classifier(model: nn.Module) -> Classifier:
    return Classifier("small", model, ("a", "b"), lambda image: X[0], lambda image: image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_dtypes(name, dtype):
    message = rf"in torch.float32, but the model's '0.weight' is in {dtype}: pass .* in {dtype}, or"
    with pytest.raises(ValueError, match=message):
        CALLS[name](_model().to(dtype))


def test_bytes_are_images_of_another_dtype():
    with pytest.raises(ValueError, match=r"in torch.uint8.*pass inputs in torch.float32\.$"):
        insertion_deletion(_model(), (255 * X).byte(), X, 0, n_steps=2)


@pytest.mark.filterwarnings("ignore:The baseline keeps", "ignore:More than a quarter")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_evaluates_a_model_and_images_in_half_precision(dtype):
    methods = ["t_grad", "full_grad", "grad_cam", "saliency", "random"]
    found = evaluate(_model().to(dtype), X.to(dtype), methods, n_steps=4)
    assert not found.skipped
    assert {each["images"] for each in found.summary["methods"].values()} == {2}


class _Converts(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images.double())


@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_a_model_may_convert_its_inputs():
    model = _Converts(_model().double()).eval()
    result = insertion_deletion(model, X, X, target=0, n_steps=2)
    torch.testing.assert_close(
        result.clean_score, model(X).softmax(1)[:, 0].detach(), check_dtype=False
    )


def test_other_errors_of_the_model_are_its_own():
    with pytest.raises(RuntimeError, match="expected input"):
        TGradAttribution(copy.deepcopy(_model())).attribute(torch.rand(2, 5, 8, 8), 0)
