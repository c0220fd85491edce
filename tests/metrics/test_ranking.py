"""From attributions to an order: shapes, channels, enlarging, ties."""

import captum.attr as captum_methods
import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.metrics import insertion, insertion_deletion
from tests.metrics.models import classifier, linear, permutation, random

pytestmark = [
    pytest.mark.filterwarnings("ignore:The baseline keeps half"),
    pytest.mark.filterwarnings("ignore:More than a quarter"),
]


def _curve(inputs, attributions, **options):
    """The insertion curve of a model that tells from its score which places are there."""
    places = inputs[0, 0].numel()
    powers = (2.0 ** torch.arange(places, dtype=torch.float64)).expand(inputs.shape[1], -1)
    model = linear(powers / inputs.shape[1])
    options = {"baselines": 0, "n_steps": places, "return_curves": True} | options
    return insertion(model, torch.ones_like(inputs), attributions, **options).insertion_curve


def _order(inputs, attributions, **options):
    curve = _curve(inputs, attributions, **options)
    return (curve[:, 1:] - curve[:, :-1]).log2().round().long().tolist()


@pytest.mark.parametrize(
    ("channel_reduce", "expected"),
    # Channels (1, -5), (2, 2), (3, 0): sums -4, 4, 3; magnitudes 6, 4, 3; largest 1, 2, 3.
    [("sum", [1, 2, 0]), ("abs", [0, 1, 2]), ("max", [2, 1, 0])],
)
def test_channels_become_one_importance(channel_reduce, expected):
    maps = torch.tensor([[[1.0, 2.0, 3.0], [-5.0, 2.0, 0.0]]])
    assert _order(torch.ones(1, 2, 3).double(), maps, channel_reduce=channel_reduce) == [expected]


def test_a_coarse_map_is_enlarged():
    # Linear, without aligned corners, 2 -> 4 places: 0, 0.25, 0.75, 1 of the way.
    maps = torch.tensor([[[1.0, 0.0]]])
    assert _order(torch.ones(1, 2, 4).double(), maps) == [[0, 1, 2, 3]]
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    rows = [15, 14, 11, 10, 13, 9, 12, 8, 7, 6, 3, 5, 2, 4, 1, 0]
    enlarged = torch.nn.functional.interpolate(maps, (4, 4), mode="bilinear")
    assert enlarged.flatten().argsort(descending=True, stable=True).tolist()[:3] == rows[:3]
    whole = _curve(torch.ones(1, 2, 4, 4).double(), enlarged)
    assert torch.equal(_curve(torch.ones(1, 2, 4, 4).double(), maps), whole)
    nearest = _order(torch.ones(1, 2, 4, 4).double(), maps, interpolate_mode="nearest")
    assert nearest == [[10, 11, 14, 15, 8, 9, 12, 13, 2, 3, 6, 7, 0, 1, 4, 5]]
    assert torch.equal(_curve(torch.ones(1, 2, 4, 4).double(), maps.long()), whole)
    for mode in ("nearest", "nearest-exact", "bicubic"):
        maps = random(1, 1, 3, 3)
        enlarged = torch.nn.functional.interpolate(maps, (4, 4), mode=mode)
        found = _curve(torch.ones(1, 2, 4, 4).double(), maps, interpolate_mode=mode)
        assert torch.equal(found, _curve(torch.ones(1, 2, 4, 4).double(), enlarged))


def test_large_integers_are_not_tied():
    maps = 2**24 + torch.tensor([[[0, 3, 1, 4, 2]]])  # float32 holds every second integer here
    assert _order(torch.ones(1, 1, 5).double(), maps) == [[3, 1, 4, 2, 0]]


def test_stable_ties_go_in_raster_order():
    maps = torch.tensor([[[1.0, 2.0, 1.0, 2.0, 0.0]]])
    assert _order(torch.ones(1, 1, 5).double(), maps) == [[1, 3, 0, 2, 4]]


def test_groups_are_replaced_as_a_whole_by_hand():
    # Importance 9, then four times 5, then 1. Counts 0, 2, 4, 6 of 6 features in 3 steps: 2 is
    # nearer to 1 than to 5, 4 nearer to 5.
    model, inputs = linear([1.0, 10, 10, 10, 10, 100]), torch.ones(1, 6).double()
    maps = torch.tensor([[9.0, 5, 5, 5, 5, 1]])
    result = insertion(model, inputs, maps, n_steps=3, ties="group", return_curves=True)
    assert result.fractions.tolist() == [[0, 1 / 6, 5 / 6, 1]]
    assert result.insertion_curve.tolist() == [[0, 1, 41, 141]]
    assert result.insertion.item() == pytest.approx((0.5 * 1 + 4 * 21 + 91) / 6, abs=1e-12)
    assert result.tied_share.item() == pytest.approx(4 / 6)
    # With as many steps as features, three counts have 1 as nearest end or are it: 1, 2 and 3.
    result = insertion(model, inputs, maps, n_steps=6, ties="group", return_curves=True)
    assert result.fractions.tolist() == [[0, 1 / 6, 1 / 6, 1 / 6, 5 / 6, 5 / 6, 1]]
    assert result.insertion_curve.tolist() == [[0, 1, 1, 1, 41, 41, 141]]
    assert result.insertion.item() == pytest.approx((0.5 * 1 + 4 * 21 + 91) / 6, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_patches_are_a_group_though_those_at_the_border_are_smaller(dtype):
    # 3 x 3 patches of 3 x 3, 3 x 2, 2 x 3 and 2 x 2 places; only that of row 0, column 1 is higher.
    maps = torch.full((1, 1, 8, 8), 0.1, dtype=dtype)
    maps[..., :3, 3:6] = 0.2
    options = {"patch_size": 3, "ties": "group", "n_steps": 9, "return_curves": True}
    result = insertion(lambda x: x.sum((1, 2, 3)), torch.ones(1, 1, 8, 8), maps, 0, **options)
    # Of the counts 0 to 9 of patches, 2 to 4 are nearest to the one patch, or as near to it as 5.
    expected = [0, *[9 / 64] * 5, *[1] * 4]
    assert result.fractions.tolist() == [pytest.approx(expected)]
    assert result.tied_share.item() == pytest.approx(8 / 9)


@pytest.mark.parametrize("n_steps", [3, 10, 64])
def test_groups_do_not_depend_on_the_order_of_pixels(n_steps):
    inputs = random(3, 2, 8, 8)
    maps = random(3, 1, 8, 8, seed=1).mul(1.5).round().clamp_min(0)
    weights, baseline = random(2, 64, seed=2), random(1, 2, 8, 8, seed=3)
    expected = None
    for seed in range(4):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
        result = insertion_deletion(
            _tanh_of_places(weights[:, order]),
            inputs.flatten(2)[..., order].reshape(3, 2, 8, 8),
            maps.flatten(2)[..., order].reshape(3, 1, 8, 8),
            baseline.flatten(2)[..., order].reshape(1, 2, 8, 8),
            n_steps=n_steps,
            ties="group",
            return_curves=True,
        )
        expected = result if expected is None else expected
        for name in ("insertion", "deletion", "insertion_curve", "fractions", "tied_share"):
            torch.testing.assert_close(
                getattr(result, name), getattr(expected, name), rtol=0, atol=1e-10
            )
    assert (expected.tied_share > 0.9).all()


def _tanh_of_places(weights):
    return lambda x: torch.tanh((x.flatten(2) * weights).sum((1, 2)))


def test_without_ties_both_ways_are_the_same():
    model, inputs, maps = classifier(), random(2, 3, 6, 6), permutation(2, 1, 6, 6)
    stable, group = (
        insertion_deletion(model, inputs, maps, 0, n_steps=9, ties=ties)
        for ties in ("stable", "group")
    )
    torch.testing.assert_close(stable.insertion, group.insertion, rtol=0, atol=1e-12)
    assert stable.tied_share.tolist() == group.tied_share.tolist() == [0, 0]


class SmallNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 16, 4))

    def forward(self, x):
        return self.head(self.features(x))


def _attributions():
    attr = captum_methods
    yield "Saliency", lambda m, x: attr.Saliency(m).attribute(x, target=1)
    yield (
        "IntegratedGradients",
        lambda m, x: attr.IntegratedGradients(m).attribute(x, target=1, n_steps=4),
    )
    yield (
        "Occlusion",
        lambda m, x: attr.Occlusion(m).attribute(x, (3, 2, 2), target=1, strides=(3, 2, 2)),
    )
    mask = (torch.arange(64).reshape(1, 1, 8, 8) // 4).expand(1, 3, 8, 8)
    yield (
        "Lime",
        lambda m, x: torch.cat(
            [
                attr.Lime(m).attribute(one, target=1, feature_mask=mask, n_samples=30)
                for one in x.split(1)
            ]
        ),
    )
    yield "DeepLift", lambda m, x: attr.DeepLift(m).attribute(x, target=1)
    yield "LayerGradCam", lambda m, x: attr.LayerGradCam(m, m.features[0]).attribute(x, target=1)
    yield (
        "GuidedGradCam",
        lambda m, x: attr.GuidedGradCam(m, m.features[0]).attribute(x, target=1),
    )
    yield (
        "NoiseTunnel",
        lambda m, x: attr.NoiseTunnel(attr.Saliency(m)).attribute(x, target=1, nt_samples=3),
    )
    yield "TGradAttribution", lambda m, x: TGradAttribution(m).attribute(x, target=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "method"), list(_attributions()))
def test_what_captums_methods_return_is_ranked(name, method):
    model = SmallNetwork().eval()
    inputs = random(2, 3, 8, 8, dtype=torch.float32)
    attributions = method(model, inputs.clone().requires_grad_())
    result = insertion_deletion(model, inputs, attributions, 0, target=1, n_steps=16)
    # What each of them amounts to is said by hand: one channel, as large as the input.
    maps = attributions.detach().sum(1, keepdim=True)
    maps = nn.functional.interpolate(maps, (8, 8), mode="bilinear", align_corners=False)
    expected = insertion_deletion(model, inputs, maps, 0, target=1, n_steps=16)
    assert torch.equal(result.insertion, expected.insertion)
    assert torch.equal(result.deletion, expected.deletion)
    assert attributions.shape[2:] == ((4, 4) if name == "LayerGradCam" else (8, 8))
