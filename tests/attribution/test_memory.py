"""Nothing of one call is kept for the next."""

import gc

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake

from captum_tgrad import FullGradAttribution, LayerTGradAttribution, TGradAttribution
from tests.alive import tensors_left_by


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.SiLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).eval()


@pytest.mark.parametrize(
    "method",
    [TGradAttribution, FullGradAttribution, lambda model: LayerTGradAttribution(model, model[1])],
    ids=["TGradAttribution", "FullGradAttribution", "LayerTGradAttribution"],
)
def test_no_tensor_stays_alive(method):
    attribution, images = method(_model()), torch.rand(2, 3, 12, 12)

    def call():
        attribution.attribute(images, target=1)
        with pytest.raises(ValueError, match="out of range"):
            attribution.attribute(images, target=99)
        gc.collect()  # of what the error holds

    assert tensors_left_by(call) == []


def _bytes(tensors) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def _alive_bytes() -> int:
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, Tensor)]
    # Tensors of an exported program have no memory.
    return _bytes(t for t in tensors if t.layout == torch.strided and not is_fake(t))


def test_activations_are_gone_while_the_terms_are_kept():
    model, images = _model(), torch.rand(2, 3, 12, 12)
    method = TGradAttribution(model)
    method.decompose(images, target=1)
    before = _alive_bytes()
    whole = method.decompose(images, target=1)
    kept = [whole.output, whole.delta]
    for term in whole.terms:
        kept += [term.positive, term.negative, term.score, term.maps[0].placed]
    assert _alive_bytes() - before <= _bytes(kept)
    # What they are views of is no larger than they are themselves.
    assert _bytes(kept) <= sum(tensor.nbytes for tensor in kept)
