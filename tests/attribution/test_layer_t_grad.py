"""T-Grad of a layer: the network after it, explained as a network of its own."""

import copy

import pytest
import torch
from captum.attr import LayerGradientXActivation
from captum.testing.attr.helpers.test_config import config
from torch import nn

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from tests import reference
from tests.networks.torchvision_models import build

CASES = [
    case
    for case in config
    if LayerGradientXActivation in case["algorithms"] and isinstance(case["layer"], str)
]


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(),
        nn.BatchNorm2d(6),
        nn.SiLU(),
        nn.Conv2d(6, 4, 3),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    network[2].running_mean.uniform_(-1, 1)
    return network.double().eval()


def _images(samples: int = 2) -> torch.Tensor:
    return torch.randn(samples, 3, 10, 10, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("sign", ["positive", "negative", "all"])
@pytest.mark.parametrize("at_input", [False, True])
def test_equals_the_literal_formula_for_the_rest_of_the_network(number, sign, at_input):
    network, images = _network(), _images()
    first = number if at_input else number + 1
    activation = copy.deepcopy(network[:first])(images).detach()
    expected = reference.tgrad(network[first:], activation, 1, sign)
    actual = LayerTGradAttribution(network, network[number]).attribute(
        images, 1, attribute_to_layer_input=at_input, sign=sign
    )
    assert actual.shape == activation.shape
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("at_input", [False, True])
def test_layer_term_is_captums_gradient_times_activation(case, at_input):
    model = copy.deepcopy(case["model"])
    layer = model.get_submodule(case["layer"])
    arguments = {
        name: value
        for name, value in case["attribute_args"].items()
        if name in ("inputs", "target", "additional_forward_args")
    }
    expected = LayerGradientXActivation(model, layer).attribute(
        **arguments, attribute_to_layer_input=at_input
    )
    method = LayerTGradAttribution(model, layer)
    actual, delta = method.attribute(
        **arguments, attribute_to_layer_input=at_input, return_convergence_delta=True
    )
    whole = method.decompose(**arguments, attribute_to_layer_input=at_input)
    assert isinstance(actual, tuple) == isinstance(expected, tuple)
    several = expected if isinstance(expected, tuple) else (expected,)
    attributions = actual if isinstance(actual, tuple) else (actual,)
    for literal, term, attribution in zip(several, whole.inputs, attributions, strict=True):
        assert attribution.shape == literal.shape
        torch.testing.assert_close(term.score, literal.flatten(1).sum(1), rtol=1e-4, atol=1e-4)
    scores = torch.stack([term.score for term in whole.terms])
    assert bool((delta.abs() <= 1e-4 * scores.abs().sum(0)).all())


LAYERS = [
    ("resnet18", "layer2.0"),
    ("resnet18", "layer2.0.conv1"),  # the skip connection passes it
    ("resnet18", "layer2.0.relu"),  # called twice
    ("resnet18", "avgpool"),
    ("mobilenet_v2", "features.5"),
    ("densenet121", "features.denseblock2"),
    ("efficientnet_b0", "features.2.0.block.1"),  # a squeeze-excitation gate
    ("googlenet", "inception4a.branch2"),
    ("swin_t", "features.1.1.attn"),  # (N, H, W, C)
    ("vit", "encoder.layers.encoder_layer_3"),  # (N, tokens, C)
]


@pytest.mark.parametrize(("name", "layer"), LAYERS, ids=lambda part: part)
@pytest.mark.parametrize("at_input", [False, True])
def test_complete_on_torchvision(name, layer, at_input):
    model = build(name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    method = LayerTGradAttribution(model, model.get_submodule(layer))
    attribution, delta = method.attribute(
        images, [3, 700], attribute_to_layer_input=at_input, return_convergence_delta=True
    )
    whole = method.decompose(images, [3, 700], attribute_to_layer_input=at_input)
    with torch.no_grad():
        torch.testing.assert_close(whole.output, model(images)[[0, 1], [3, 700]])
    scores = torch.stack([term.score for term in whole.terms])
    assert bool((delta.abs() <= 1e-9 * scores.abs().sum(0)).all())
    torch.testing.assert_close(
        attribution.flatten(1).sum(1), scores.clamp(min=0).sum(0), rtol=1e-9, atol=1e-9
    )


def test_what_passes_the_layer_is_a_bias_where_it_joins():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(1, 1, 1, bias=False)

        def forward(self, x):
            return (self.body(x) + x).sum((2, 3))

    model = Residual()
    model.body.weight.data.fill_(2.0)
    image = torch.tensor([[[[1.0, -3.0], [0.0, 5.0]]]])
    whole = LayerTGradAttribution(model, model.body).decompose(image, target=0)
    (joined,) = whole.biases
    torch.testing.assert_close(whole.input.positive, (2 * image).clamp(min=0))
    torch.testing.assert_close(joined.positive, image.clamp(min=0))
    torch.testing.assert_close(joined.negative, (-image).clamp(min=0))


class _ChannelsLast(nn.Module):
    def __init__(self, convolutions: nn.ModuleList, folded: bool = False) -> None:
        super().__init__()
        self.convolutions, self.layer, self.folded = convolutions, nn.Identity(), folded

    def forward(self, x):
        x = self.convolutions[0](x).permute(0, 2, 3, 1)
        shape = x.shape
        x = self.layer(x.flatten(1, 2) if self.folded else x)
        x = x.reshape(shape).permute(0, 3, 1, 2)
        return self.convolutions[1](x).relu().mean((2, 3))


def test_channels_last_layer_gives_the_same_map():
    torch.manual_seed(2)
    images = torch.randn(2, 3, 7, 5).double()
    convolutions = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 2)]).double()
    plain = nn.Sequential(
        convolutions[0], convolutions[1], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    expected = LayerTGradAttribution(plain, convolutions[0]).attribute(images, 1)
    last = _ChannelsLast(convolutions)
    actual = LayerTGradAttribution(last, last.layer).attribute(images, 1)
    torch.testing.assert_close(actual, expected.permute(0, 2, 3, 1))
    tokens = _ChannelsLast(convolutions, folded=True)
    actual = LayerTGradAttribution(tokens, tokens.layer).attribute(images, 1)
    torch.testing.assert_close(actual, expected.permute(0, 2, 3, 1).flatten(1, 2))


def test_windows_in_the_batch_dimension():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)
            self.norm = nn.GroupNorm(1, 2)

        def forward(self, x):
            n, c, h, w = x.shape
            x = x.reshape(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3, 5)
            x = self.layer(x.reshape(n * 4, c, h // 2, w // 2))
            return self.norm(x).relu().reshape(n, -1).sum(1)

    torch.manual_seed(4)
    model, images = Windows().double(), _images(3)[..., :8, :8]
    method = LayerTGradAttribution(model, model.layer)
    attribution = method.attribute(images)
    assert attribution.shape == (12, 2, 4, 4)
    whole = method.decompose(images)
    scores = torch.stack([term.score for term in whole.terms])
    torch.testing.assert_close(scores.sum(0), model(images).detach())
    torch.testing.assert_close(attribution.reshape(3, -1).sum(1), scores.clamp(min=0).sum(0))


def test_tokens_are_told_apart_if_it_is_said_which_dimension_is_no_place():
    torch.manual_seed(6)
    embedding, layer = nn.Embedding(10, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model = nn.Sequential(embedding, layer).double().eval()
    tokens = torch.randint(10, (2, 5))
    method = LayerTGradAttribution(lambda tokens: model(tokens)[:, 0], embedding)
    attribution = method.attribute(tokens, 1, channel_dim=-1)
    whole = method.decompose(tokens, 1, channel_dim=-1)
    assert whole.biases[-1].positive.shape == (2, 1, 5)
    assert float(whole.biases[-1].positive[:, :, 1:].sum()) == 0  # the last norm is at token 0
    scores = torch.stack([term.score for term in whole.terms]).clamp(min=0).sum(0)
    torch.testing.assert_close(attribution.flatten(1).sum(1), scores)


def test_tokens_that_count_as_channels_are_warned_of():
    embedding, layer = nn.Embedding(10, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model = nn.Sequential(embedding, layer).eval()
    method = LayerTGradAttribution(lambda tokens: model(tokens)[:, 0], embedding)
    with pytest.warns(UserWarning, match=r"all 5 positions.*pass channel_dim=2"):
        method.attribute(torch.randint(10, (2, 5)), 1)


@pytest.mark.parametrize("at_input", [False, True])
def test_image_columns_that_count_as_channels_before_the_layer_are_warned_of(at_input):
    network = _network()
    method = LayerTGradAttribution(network, network[4])
    with pytest.warns(
        UserWarning, match=r"3 of inputs as.*all 10 positions.*pass channel_dim=1"
    ) as caught:
        method.attribute(_images(), 1, attribute_to_layer_input=at_input, channel_dim=-1)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:forward_func uses dimension")
@pytest.mark.parametrize("aggregation", ["paper", "levels"])
def test_image_columns_that_count_as_channels_leave_the_rows(aggregation):
    network, images = _network(), _images()
    actual = LayerTGradAttribution(network, network[3]).attribute(
        images, 1, channel_dim=-1, aggregation=aggregation
    )
    activation = copy.deepcopy(network[:4])(images).detach()  # (N, C, H, W)
    by_row = activation.transpose(1, 2).flatten(2)  # (N, H, C * W)

    def rest(rows):
        return network[4:](rows.unflatten(2, activation.shape[1::2]).transpose(1, 2))

    expected = TGradAttribution(rest).attribute(by_row, 1, channel_dim=-1, aggregation=aggregation)
    expected = expected.unflatten(2, activation.shape[1::2]).transpose(1, 2)
    torch.testing.assert_close(actual, expected)


class _Odd(nn.Module):
    def __init__(self, returned) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 3)
        self.unused = nn.Linear(10, 3)
        self.returned = self.layer.register_forward_hook(lambda m, i, o: returned(o))

    def forward(self, x):
        output = self.layer(x.flatten(1)[:, :10])
        return x.flatten(1)[:, :3] + (0 if isinstance(output, (dict, tuple)) else output.sum())


@pytest.mark.parametrize(
    ("returned", "layer", "error", "words"),
    [
        (lambda o: {"out": o}, "layer", TypeError, "returns dict"),
        (lambda o: (None, None), "layer", TypeError, "returns NoneType"),
        (lambda o: (o, 1), "layer", TypeError, "returns int"),
        (lambda o: o > 0, "layer", TypeError, "torch.bool"),
        (lambda o: o.sum(0), "layer", ValueError, "mixes the 2 samples of the batch"),
        (lambda o: o - o.mean(0), "layer", ValueError, "mixes the 2 samples of the batch"),
        (lambda o: o, "unused", ValueError, "never called"),
    ],
)
def test_layers_that_cannot_be_explained(returned, layer, error, words):
    model = _Odd(returned)
    hooks = [len(m._forward_hooks) for m in model.modules()]
    with pytest.raises(error, match=words):
        LayerTGradAttribution(model, getattr(model, layer)).attribute(torch.rand(2, 3, 4, 4), 0)
    assert [len(m._forward_hooks) for m in model.modules()] == hooks


@pytest.mark.parametrize("samples", [1, 2])
def test_embeddings_of_tokens_must_have_the_batch_first(samples):
    embedding, head, mark = nn.Embedding(10, 4), nn.Linear(4, 2), nn.Identity()
    tokens = torch.arange(samples * 5).reshape(samples, 5)

    def forward(tokens):
        found = embedding(tokens.T)
        return head(found.sum(0)) * mark(found.sum())

    for layer in (embedding, mark):
        method = LayerTGradAttribution(forward, layer)
        with pytest.raises(
            ValueError, match=f"first dimension must be the batch, of size {samples}"
        ):
            method.attribute(tokens, 0)


def test_keyword_arguments_have_no_layer_input():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(input=x)

    model = Keyword()
    with pytest.raises(ValueError, match="no positional argument"):
        LayerTGradAttribution(model, model.layer).attribute(
            torch.rand(2, 3), 0, attribute_to_layer_input=True
        )
    LayerTGradAttribution(model, model.layer).attribute(torch.rand(2, 3), 0)


@pytest.mark.parametrize("layer", ["layer4", [nn.ReLU()], None])
def test_layer_must_be_one_module(layer):
    with pytest.raises(TypeError, match=r"layer must be a torch\.nn\.Module"):
        LayerTGradAttribution(nn.ReLU(), layer)


def test_device_ids_must_be_a_list():
    model = nn.ReLU()
    with pytest.raises(TypeError, match=r"device_ids must be a list of at most one .* got int"):
        LayerTGradAttribution(model, model, device_ids=0)
    LayerTGradAttribution(model, model, device_ids=[0])


class _Scores(nn.Module):
    """Scores between tokens, read by ``mark`` as queries by keys, or as keys by queries."""

    def __init__(self, swapped: bool, across: bool) -> None:
        super().__init__()
        self.mark, self.swapped, self.across = nn.Identity(), swapped, across
        generator = torch.Generator().manual_seed(0)
        self.query, self.key, self.weight = (
            torch.randn(*shape, generator=generator, dtype=torch.float64)
            for shape in ((4, 4), (4, 4), (6, 6))
        )

    def forward(self, x):
        one, other = (x[:, :2], x[:, 2:]) if self.across else (x, x)
        query, key = one @ self.query, other @ self.key
        scores = self.mark(key @ query.mT).mT if self.swapped else self.mark(query @ key.mT)
        weight = self.weight[: scores.shape[1], : scores.shape[2]]
        return ((scores + 0.3).relu() * weight).sum((1, 2))


class _TwoScales(nn.Module):
    """Tokens of an image and of the same image at half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = nn.Identity()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(20, generator=generator, dtype=torch.float64)

    def forward(self, x):
        tokens = self.mark(torch.cat([x.flatten(2), nn.functional.avg_pool2d(x, 2).flatten(2)], -1))
        return ((tokens - 0.4).relu() * self.weight).sum((1, 2))


class _SomeTokens(nn.Module):
    """Tokens of a diagonal: most pairs of a row and a column have none."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = nn.Identity()

    def forward(self, x):
        return torch.exp(self.mark(x.diagonal(dim1=2, dim2=3)).mean((1, 2)))


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
@pytest.mark.parametrize(
    "make", [lambda: _Scores(False, False), lambda: _Scores(True, True), _TwoScales, _SomeTokens]
)
def test_attribution_at_cells_of_any_kind_sums_to_the_map(make, aggregation):
    model = make()
    shape = (3, 6, 4) if isinstance(model, _Scores) else (3, 2, 4, 4)
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    channel_dim = 1 if len(shape) == 4 else -1
    method = LayerTGradAttribution(model, model.mark)
    attribution = method.attribute(x, channel_dim=channel_dim, aggregation=aggregation)
    expected = method.decompose(x, channel_dim=channel_dim).map(aggregation=aggregation)
    assert bool((expected.flatten(1).sum(1) > 0).any())
    torch.testing.assert_close(attribution.flatten(1).sum(1), expected.flatten(1).sum(1))


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
@pytest.mark.parametrize("across", [False, True])
def test_scores_have_one_attribution_whichever_tokens_come_first(across, aggregation):
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain, swapped = (
        LayerTGradAttribution(model, model.mark).attribute(
            x, channel_dim=-1, aggregation=aggregation
        )
        for model in (_Scores(False, across), _Scores(True, across))
    )
    assert bool(plain.any())
    torch.testing.assert_close(plain, swapped.mT)


class _Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.unused, self.out = layer, nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs):
        found = self.layer(inputs)
        sequence = found[0] if isinstance(found, tuple) else found
        self.unused(sequence)
        return self.out(sequence[:, -1])


class _First(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs):
        return self.layer(inputs)[0]


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        (nn.LSTM, TypeError, r"\(LSTM\) returns a nested tuple"),
        (nn.GRU, ValueError, r"tensor 1 of the 2 in the activation of layer \(GRU\)"),
    ],
)
def test_a_recurrent_layer_says_how_to_explain_one_of_its_tensors(kind, error, said):
    inputs = torch.randn(2, 5, 3)
    layer = kind(3, 4, batch_first=True)
    with pytest.raises(error, match=f"{said}.*wrap it in a module.*attribute_to_layer_input=True"):
        LayerTGradAttribution(_Recurrent(layer), layer).attribute(inputs, 1, channel_dim=-1)
    model = _Recurrent(_First(layer))
    method = LayerTGradAttribution(model, model.layer)
    assert method.attribute(inputs, 1, channel_dim=-1).shape == (2, 5, 4)
    expected = TGradAttribution(model).attribute(inputs, 1, channel_dim=-1)
    actual = LayerTGradAttribution(_Recurrent(layer), layer)
    at_input = actual.attribute(inputs, 1, attribute_to_layer_input=True, channel_dim=-1)
    assert at_input.shape == expected.shape


def test_a_layer_that_the_output_does_not_depend_on():
    model = _Recurrent(_First(nn.GRU(3, 4, batch_first=True)))
    with pytest.raises(ValueError, match=r"does not depend on layer \(Linear\): pass a module"):
        LayerTGradAttribution(model, model.unused).attribute(torch.randn(2, 5, 3), 1)


class _WithWeights(nn.Module):
    """A layer that returns weights if asked to, as attention does, and else None."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(3, 4), tuple

    def forward(self, x, scale=None):
        return self.kind([self.linear(x), scale])


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("at_input", [False, True])
def test_a_layer_with_none_among_its_values(kind, at_input):
    layer, out = _WithWeights(), nn.Linear(4, 2)
    layer.kind = kind
    tokens = torch.randn(2, 5, 3)

    def forward(x):
        y, weights = layer(x, None)
        assert weights is None
        return out(torch.relu(y)).mean(1)

    def attribution(of):
        method = LayerTGradAttribution(forward, of)
        return method.attribute(tokens, 1, None, at_input, channel_dim=-1)

    torch.testing.assert_close(attribution(layer), attribution(layer.linear))


def _exponential(images: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_exp(images / 4)


class _After(nn.Module):
    """Images through ``before``, and a module ``mark`` at which the layer is explained."""

    def __init__(self, before, after) -> None:
        super().__init__()
        self.before, self.mark, self.after = before, nn.Identity(), after

    def forward(self, images):
        return self.after(self.mark(self.before(images)))


def _with_class_token(images: torch.Tensor) -> torch.Tensor:
    tokens = nn.functional.avg_pool2d(images, 2).flatten(2).mT
    return torch.cat([torch.ones_like(tokens[:, :1]), tokens], 1)


def _with_mean_token(images: torch.Tensor) -> torch.Tensor:
    tokens = nn.functional.avg_pool2d(images, 2).flatten(2).mT
    return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


def _windows(images: torch.Tensor) -> torch.Tensor:
    padded = nn.functional.pad(images, (0, 0, 1, 1)).unflatten(3, (2, 3)).unflatten(2, (2, 4))
    return padded.permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2, 3)  # (N, windows, T, E)


_OF_IMAGES = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
_OF_TOKENS = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 4), nn.SiLU())


def _read_tokens(tokens: torch.Tensor) -> torch.Tensor:
    return (_OF_TOKENS(tokens).flatten(1, -2) * torch.arange(4.0)).cumsum(1).sum(1)


def _join_windows(y: torch.Tensor) -> torch.Tensor:
    """From (N, windows, T, E) to (N * windows, T, E), and back."""
    return y.flatten(0, 1) if y.dim() == 4 else y.unflatten(0, (-1, 4))


def _swap(y: torch.Tensor) -> torch.Tensor:
    return y.transpose(0, 1)


def _keep(y: torch.Tensor) -> torch.Tensor:
    return y


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("before", "after", "channel_dim", "move"),
    [
        (_with_class_token, _read_tokens, -1, _keep),
        (_with_class_token, _read_tokens, -1, _swap),  # (T, N, E), as in CLIP
        (_with_mean_token, _read_tokens, -1, _keep),  # as in CLIP's attention pooling
        (_windows, _read_tokens, -1, _join_windows),  # (N * windows, T, E), as in Swin
        (lambda x: nn.functional.pad(x, (2, 1, 0, 3)), _OF_IMAGES, 1, _keep),
        (lambda x: _exponential(x)[..., 1:], _OF_IMAGES, 1, _keep),
        (lambda x: torch.fft.ifft(torch.fft.fft(x)).real, _OF_IMAGES, 1, _keep),
    ],
    ids=[
        "class token",
        "tokens first",
        "mean token",
        "windows",
        "padding",
        "lost positions",
        "lost columns",
    ],
)
def test_elements_without_a_place_on_the_images_are_told_apart(
    before, after, channel_dim, move, samples, aggregation
):
    """``move`` moves the samples to where the layer has them, and back."""
    x = torch.randn(samples, 3, 6, 6, dtype=torch.float64)
    _OF_IMAGES.double(), _OF_TOKENS.double()
    model = _After(lambda x: move(before(x)), lambda y: after(move(y)))
    actual = LayerTGradAttribution(model, model.mark).attribute(x, 2, aggregation=aggregation)
    expected = TGradAttribution(after).attribute(
        before(x), 2, aggregation=aggregation, channel_dim=channel_dim
    )
    torch.testing.assert_close(actual, move(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channel_dim", [2, -1])
def test_the_channels_of_tokens_are_a_dimension_of_their_embedding(channel_dim):
    torch.manual_seed(7)
    embedding, image_part, out = nn.Embedding(10, 4), nn.Linear(6, 2), nn.Linear(4, 2)

    def forward(images, tokens):
        return image_part(images) + out(torch.tanh(embedding(tokens) + 1)).sum(1)

    images, tokens = torch.randn(3, 6), torch.randint(10, (3, 5))
    expected = TGradAttribution(lambda e: image_part(images) + out(torch.tanh(e + 1)).sum(1))
    expected = expected.attribute(embedding(tokens).detach(), 1, channel_dim=-1)
    both = LayerTGradAttribution(forward, embedding)
    torch.testing.assert_close(
        both.attribute((images, tokens), 1, channel_dim=(1, channel_dim)), expected
    )
    alone = LayerTGradAttribution(lambda tokens: forward(images, tokens), embedding)
    torch.testing.assert_close(alone.attribute(tokens, 1, channel_dim=channel_dim), expected)
    with pytest.raises(ValueError, match=r"channel_dim is 3, but the activation of layer \(Emb"):
        alone.attribute(tokens, 1, channel_dim=3)
