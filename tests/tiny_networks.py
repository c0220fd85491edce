"""A zoo of tiny networks, one for every kind of operation a decomposition meets.

Every network runs each of its operations as a leaf module, the form that
``tests.reference`` needs. Many have a twin that shares its parameters and writes the
same computation with functions, operators and in-place operations, as real models do.

    from tests.tiny_networks import TINY_NETWORKS

    @pytest.mark.parametrize("tiny", TINY_NETWORKS, ids=lambda tiny: tiny.id)
    def test_something(tiny):
        network = tiny.build()
        twin = tiny.functional and tiny.functional(network)
        ... tiny.inputs, tiny.target
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES = (2, 3, 6, 5)
WIDTH = 4
CLASSES = 3


@dataclass(frozen=True)
class TinyNetwork:
    """One network of the zoo.

    Attributes:
        id: the name a test shows.
        layout: makes the module tree, its weights not yet seeded.
        shapes: the shapes of the inputs.
        target: as in captum.
        twin: the forward of the functional form, ``twin(network, *inputs)``, which
            finds parameters and constants in the modules of ``network``; or None.
        transform: applied to the standard normal inputs, e.g. to saturate units.
        conventional: False where some tensor is not laid out as (N, C, *spatial), so
            that its places are a matter of opinion and only scores can be compared.
        twin_terms: whether the twin has the same non-zero bias terms in the same order
            (False where it merges or splits operations; its input term always agrees).
        seed: of the weights and inputs.
    """

    id: str
    layout: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = (IMAGES,)
    target: int | list[int] | None = 1
    twin: Callable[..., Tensor] | None = None
    transform: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    conventional: bool = True
    twin_terms: bool = True
    seed: int = 0

    def build(self) -> nn.Module:
        """A new eval-mode float64 network; always the same weights."""
        network = self.layout().double().eval()
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for module in network.modules():
                _seed_module(module, generator)
        return network

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """New float64 tensors; always the same values."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        normal = (_normal(shape, generator) for shape in self.shapes)
        return tuple(self.transform(x) for x in normal)

    @property
    def functional(self) -> Callable[[nn.Module], nn.Module] | None:
        """``functional(network)``: the twin, sharing the modules of ``network``."""
        if self.twin is None:
            return None
        return lambda network: FunctionalTwin(network, self.twin)


class FunctionalTwin(nn.Module):
    """The children of a network under another forward."""

    def __init__(self, network: nn.Module, twin: Callable[..., Tensor]) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        self.twin = twin
        self.train(network.training)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.twin(self, *inputs)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _seed_module(module: nn.Module, generator: torch.Generator) -> None:
    """Weights that keep the scale, and biases and statistics that matter."""
    for name, parameter in module.named_parameters(recurse=False):
        values = _normal(parameter.shape, generator)
        if name == "weight" and parameter.dim() > 1:
            values *= 1.5 / parameter[0].numel() ** 0.5
        elif name == "weight":
            values = 1 + 0.3 * values if not isinstance(module, nn.PReLU) else values
        else:
            values *= 0.7
        parameter.copy_(values)
    for name, buffer in module.named_buffers(recurse=False):
        values = _normal(buffer.shape, generator)
        if name == "running_mean":
            buffer.copy_(0.5 * values)
        elif name == "running_var":
            buffer.copy_(0.5 + values**2)
        elif name == "constant":
            buffer.copy_(0.7 * values)


# ---------------------------------------------------------------- operations as modules


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Multiply(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


class Divide(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x / y


class MatrixMultiply(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y


class Concatenate(nn.Module):
    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, dim=self.dim)


class Detach(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Function(nn.Module):
    """A parameterless operation, for those that torch has no module for."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)


class WithConstant(nn.Module):
    """``function(x, constant)``; the constant is a parameter or a buffer."""

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        shape: tuple[int, ...],
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.function = function
        constant = torch.zeros(shape)
        if trainable:
            self.constant = nn.Parameter(constant)
        else:
            self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.constant)


def add_constant(shape: tuple[int, ...], trainable: bool = True) -> WithConstant:
    return WithConstant(lambda x, constant: x + constant, shape, trainable)


def scale_by_constant(shape: tuple[int, ...]) -> WithConstant:
    return WithConstant(lambda x, constant: x * constant, shape)


def concatenate_constant(shape: tuple[int, ...]) -> WithConstant:
    def concatenate(x: Tensor, constant: Tensor) -> Tensor:
        return torch.cat([x, constant.expand(len(x), *constant.shape[1:])], dim=1)

    return WithConstant(concatenate, shape)


def channels_last(module: nn.Module) -> nn.Module:
    """Tell the reference that the channels of the output are its last axis."""
    module.channel_axis = -1
    return module


# --------------------------------------------------------------------- building blocks


def conv(inside: int = 3, outside: int = WIDTH, **options) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, **{"kernel_size": 3, "padding": 1, **options})


def head(channels: int = WIDTH) -> nn.Sequential:
    """Pooling to 3x2 places, so that places differ in weight, and a classifier."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(channels * 6, CLASSES)
    )


class Graph(nn.ModuleDict):
    """Named modules under a forward that is written where they are made."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__(modules)
        self.graph = forward

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.graph(self, *inputs)


class Chain(nn.Sequential):
    """A sequence of named modules."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def between(operation: Callable[[], nn.Module], channels: int = WIDTH) -> Callable:
    """A layout: convolution, the operation, a ReLU and a head."""
    return lambda: Chain(
        conv=conv(),
        operation=operation(),
        relu=nn.ReLU(),
        head=head(channels),
    )


def between_twin(function: Callable[[nn.Module, Tensor], Tensor]) -> Callable:
    """The twin of ``between``: the operation is ``function(its module, x)``."""

    def twin(network: nn.Module, x: Tensor) -> Tensor:
        x = function(network.operation, network.conv(x))
        return network.head(torch.relu(x))

    return twin


# ----------------------------------------------------------------- activation functions


def activation(
    name: str,
    module: Callable[[], nn.Module],
    function: Callable[[nn.Module, Tensor], Tensor] | None = None,
    scale: float = 1.0,
) -> TinyNetwork:
    """Convolution, activation, convolution, the activation again, a head."""

    def twin(network: nn.Module, x: Tensor) -> Tensor:
        x = function(network.first, network.conv1(x))
        return network.head(function(network.second, network.conv2(x)))

    return TinyNetwork(
        name,
        lambda: Chain(
            conv1=conv(),
            first=module(),
            conv2=conv(WIDTH),
            second=module(),
            head=head(),
        ),
        twin=None if function is None else twin,
        transform=lambda x: scale * x,
    )


ACTIVATIONS = [
    activation("relu", nn.ReLU, lambda m, x: torch.relu(x)),
    activation(
        "relu_in_place",
        lambda: nn.ReLU(inplace=True),
        lambda m, x: F.relu(x, inplace=True),
    ),
    activation("relu_method", nn.ReLU, lambda m, x: x.relu_()),
    activation("relu_clamp", nn.ReLU, lambda m, x: x.clamp(min=0)),
    activation("relu6", lambda: nn.ReLU6(inplace=True), lambda m, x: F.relu6(x), scale=8),
    activation("relu6_clamp", nn.ReLU6, lambda m, x: torch.clamp_(x, 0.0, 6.0), scale=8),
    activation(
        "hardtanh",
        lambda: nn.Hardtanh(-1.0, 2.0),
        lambda m, x: F.hardtanh(x, -1.0, 2.0, inplace=True),
        scale=2,
    ),
    activation(
        "hardsigmoid",
        lambda: nn.Hardsigmoid(inplace=True),
        lambda m, x: F.hardsigmoid(x, inplace=True),
        scale=5,
    ),
    activation(
        "hardsigmoid_by_hand",
        lambda: Chain(
            shift=Function(lambda x: x + 3),
            clip=nn.ReLU6(),
            scale=Function(lambda x: x / 6),
        ),
        lambda m, x: F.relu6(x + 3.0, inplace=True) / 6,
        scale=5,
    ),
    activation(
        "hardswish",
        nn.Hardswish,
        lambda m, x: F.hardswish(x, inplace=True),
        scale=4,
    ),
    activation(
        "leaky_relu",
        lambda: nn.LeakyReLU(0.2),
        lambda m, x: F.leaky_relu(x, 0.2, inplace=True),
    ),
    activation("prelu", lambda: nn.PReLU(WIDTH), lambda m, x: torch.prelu(x, m.weight)),
    activation("rrelu", lambda: nn.RReLU(inplace=True), lambda m, x: F.rrelu(x, training=False)),
    activation("elu", nn.ELU, lambda m, x: F.elu(x, inplace=True)),
    activation("selu", nn.SELU, lambda m, x: torch.selu(x)),
    activation("celu", lambda: nn.CELU(0.5), lambda m, x: torch.celu(x, 0.5)),
    activation("silu", lambda: nn.SiLU(inplace=True), lambda m, x: F.silu(x, inplace=True)),
    activation(
        "silu_by_hand",
        lambda: Graph(
            lambda m, x: m.multiply(x, m.sigmoid(x)),
            sigmoid=nn.Sigmoid(),
            multiply=Multiply(),
        ),
        lambda m, x: x * torch.sigmoid(x),
    ),
    activation("mish", nn.Mish, lambda m, x: F.mish(x)),
    activation("gelu_erf", nn.GELU, lambda m, x: F.gelu(x)),
    activation(
        "gelu_tanh",
        lambda: nn.GELU(approximate="tanh"),
        lambda m, x: F.gelu(x, approximate="tanh"),
    ),
    activation("sigmoid", nn.Sigmoid, lambda m, x: x.sigmoid_()),
    activation("log_sigmoid", nn.LogSigmoid, lambda m, x: F.logsigmoid(x)),
    activation("tanh", nn.Tanh, lambda m, x: torch.tanh_(x)),
    activation("softplus", nn.Softplus, lambda m, x: F.softplus(x)),
    activation("softsign", nn.Softsign, lambda m, x: F.softsign(x)),
    activation(
        "threshold",
        lambda: nn.Threshold(0.3, -0.4),
        lambda m, x: F.threshold(x, 0.3, -0.4, inplace=True),
    ),
    activation("hardshrink", nn.Hardshrink, lambda m, x: F.hardshrink(x)),
    activation("softshrink", nn.Softshrink, lambda m, x: F.softshrink(x)),
    activation("square", lambda: Function(torch.square), lambda m, x: x**2),
    activation("absolute", lambda: Function(torch.abs), lambda m, x: abs(x)),
    activation("sine", lambda: Function(torch.sin), lambda m, x: x.sin_()),
]


# -------------------------------------------------- layers that torch has a module for


def layer(
    name: str,
    module: Callable[[], nn.Module],
    function: Callable[[nn.Module, Tensor], Tensor] | None = None,
    channels: int = WIDTH,
    **options,
) -> TinyNetwork:
    """Convolution, the layer, a ReLU, a head."""
    twin = None if function is None else between_twin(function)
    return TinyNetwork(name, between(module, channels), twin=twin, **options)


LAYERS = [
    layer(
        "batch_norm",
        lambda: nn.BatchNorm2d(WIDTH),
        lambda m, x: F.batch_norm(
            x, m.running_mean, m.running_var, m.weight, m.bias, False, 0.0, m.eps
        ),
        shapes=((3, 3, 6, 5),),
    ),
    layer(
        "batch_norm_without_affine",
        lambda: nn.BatchNorm2d(WIDTH, affine=False),
        lambda m, x: F.batch_norm(x, m.running_mean, m.running_var),
    ),
    layer(
        "depthwise_convolution",
        lambda: conv(WIDTH, groups=WIDTH),
        lambda m, x: F.conv2d(x, m.weight, m.bias, padding=1, groups=WIDTH),
    ),
    layer(
        "grouped_convolution",
        lambda: conv(WIDTH, 6, groups=2),
        lambda m, x: torch.conv2d(x, m.weight, m.bias, padding=1, groups=2),
        channels=6,
    ),
    layer(
        "dilated_convolution",
        lambda: conv(WIDTH, dilation=2, padding=2),
        lambda m, x: F.conv2d(x, m.weight, m.bias, padding="same", dilation=2),
    ),
    layer(
        "strided_convolution",
        lambda: conv(WIDTH, stride=2),
        lambda m, x: F.conv2d(x, m.weight, m.bias, stride=2, padding=1),
    ),
    layer("reflecting_convolution", lambda: conv(WIDTH, padding_mode="reflect")),
    layer(
        "convolution_without_bias",
        lambda: conv(WIDTH, bias=False),
        lambda m, x: F.conv2d(x, m.weight, padding=1),
    ),
    layer(
        "transposed_convolution",
        lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 3, stride=2),
        lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, stride=2),
    ),
    layer(
        "max_pooling",
        lambda: nn.MaxPool2d(3, stride=2, padding=1),
        lambda m, x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[0],
    ),
    layer(
        "average_pooling",
        lambda: nn.AvgPool2d(3, stride=2, padding=1),
        lambda m, x: F.avg_pool2d(x, 3, stride=2, padding=1),
    ),
    layer(
        "adaptive_average_pooling",
        lambda: nn.AdaptiveAvgPool2d((4, 2)),
        lambda m, x: F.adaptive_avg_pool2d(x, (4, 2)),
    ),
    layer(
        "adaptive_max_pooling",
        lambda: nn.AdaptiveMaxPool2d(3),
        lambda m, x: F.adaptive_max_pool2d(x, 3),
    ),
    layer(
        "layer_norm",
        lambda: nn.LayerNorm((WIDTH, 6, 5)),
        lambda m, x: F.layer_norm(x, (WIDTH, 6, 5), m.weight, m.bias),
    ),
    layer(
        "group_norm",
        lambda: nn.GroupNorm(2, WIDTH),
        lambda m, x: F.group_norm(x, 2, m.weight, m.bias),
    ),
    layer(
        "instance_norm",
        lambda: nn.InstanceNorm2d(WIDTH, affine=True),
        lambda m, x: F.instance_norm(x, weight=m.weight, bias=m.bias),
    ),
    layer(
        "instance_norm_with_statistics",
        lambda: nn.InstanceNorm2d(WIDTH, track_running_stats=True),
        lambda m, x: F.instance_norm(x, m.running_mean, m.running_var, use_input_stats=False),
    ),
    layer(
        "local_response_norm",
        lambda: nn.LocalResponseNorm(3, alpha=2.0),
        lambda m, x: F.local_response_norm(x, 3, alpha=2.0),
        twin_terms=False,
    ),
    layer(
        "unit_length",
        lambda: Function(lambda x: F.normalize(x, dim=1)),
        lambda m, x: F.normalize(x, dim=1),
    ),
    layer("softmax", lambda: nn.Softmax(dim=1), lambda m, x: torch.softmax(x, dim=1)),
    layer("softmax_2d", nn.Softmax2d, lambda m, x: x.softmax(-3)),
    layer(
        "zero_padding",
        lambda: nn.ZeroPad2d((1, 0, 2, 1)),
        lambda m, x: F.pad(x, (1, 0, 2, 1)),
    ),
    layer(
        "constant_padding",
        lambda: nn.ConstantPad2d((1, 2, 0, 1), 0.7),
        lambda m, x: F.pad(x, (1, 2, 0, 1), value=0.7),
    ),
    layer(
        "reflection_padding",
        lambda: nn.ReflectionPad2d(1),
        lambda m, x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    ),
    layer(
        "nearest_upsampling",
        lambda: nn.Upsample(scale_factor=2),
        lambda m, x: F.interpolate(x, scale_factor=2),
    ),
    layer(
        "bilinear_upsampling",
        lambda: nn.Upsample((9, 8), mode="bilinear"),
        lambda m, x: F.interpolate(x, (9, 8), mode="bilinear"),
    ),
    layer(
        "upsampling_beyond_the_input",
        lambda: Chain(larger=nn.Upsample(scale_factor=4), conv=conv(WIDTH)),
        lambda m, x: m.conv(F.interpolate(x, scale_factor=4)),
    ),
    layer(
        "pixel_shuffle",
        lambda: nn.PixelShuffle(2),
        lambda m, x: F.pixel_shuffle(x, 2),
        channels=1,
    ),
    layer("dropout", nn.Dropout2d, lambda m, x: F.dropout2d(x, 0.5, training=m.training)),
]


# ------------------------------------------------------------- constants and operators


def _set_first_channel(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = 0.5
    return x


def _set_first_channel_in_place(m: nn.Module, x: Tensor) -> Tensor:
    x[:, 0] = 0.5
    return x


def _shift_first_channels(x: Tensor) -> Tensor:
    return torch.cat([x[:, :2] + 1, x[:, 2:]], dim=1)


def _shift_first_channels_in_place(m: nn.Module, x: Tensor) -> Tensor:
    x[:, :2].add_(1)
    return x


def _with_constant(function: Callable, *shape: int) -> Callable[[], nn.Module]:
    return lambda: WithConstant(function, shape or (1, WIDTH, 1, 1))


def _softplus_then(operation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Chain(positive=nn.Softplus(), divide=operation())


CONSTANTS = [
    layer(
        "plus_parameter",
        lambda: add_constant((1, WIDTH, 6, 5)),
        lambda m, x: x + m.constant,
    ),
    layer(
        "plus_buffer",
        lambda: add_constant((1, WIDTH, 1, 1), trainable=False),
        lambda m, x: torch.add(m.constant, x),
    ),
    layer("plus_number", lambda: Function(lambda x: x + 1), lambda m, x: x.add_(1)),
    layer(
        "plus_scaled_parameter",
        _with_constant(lambda x, c: x - 2 * c),
        lambda m, x: torch.sub(x, m.constant, alpha=2),
    ),
    layer(
        "in_place_plus_parameter",
        lambda: add_constant((WIDTH, 1, 1)),
        lambda m, x: x.__iadd__(m.constant),
    ),
    layer(
        "parameter_minus",
        _with_constant(lambda x, c: c - x),
        lambda m, x: m.constant - x,
    ),
    layer("number_minus", lambda: Function(lambda x: 1 - x), lambda m, x: 1 - x),
    layer(
        "parameter_over",
        _softplus_then(_with_constant(lambda x, c: c / x)),
        lambda m, x: m.divide.constant / F.softplus(x),
    ),
    layer(
        "number_over",
        _softplus_then(lambda: Function(lambda x: 2 / x)),
        lambda m, x: 2 / F.softplus(x),
    ),
    layer(
        "times_parameter",
        lambda: scale_by_constant((1, WIDTH, 1, 1)),
        lambda m, x: x.mul_(m.constant),
    ),
    layer(
        "concatenate_parameter",
        lambda: concatenate_constant((1, 2, 6, 5)),
        lambda m, x: torch.cat([x, m.constant.expand(len(x), -1, -1, -1)], 1),
        channels=WIDTH + 2,
    ),
    layer(
        "where_parameter",
        _with_constant(lambda x, c: torch.where(x > 0.2, x, c)),
        lambda m, x: torch.where(x > 0.2, x, m.constant),
    ),
    layer(
        "maximum_with_parameter",
        _with_constant(torch.maximum),
        lambda m, x: torch.maximum(x, m.constant),
    ),
    layer(
        "masked_fill",
        lambda: Function(lambda x: x.masked_fill(x < -0.2, 0.3)),
        lambda m, x: x.masked_fill_(x < -0.2, 0.3),
    ),
    layer(
        "set_item",
        lambda: Function(_set_first_channel),
        _set_first_channel_in_place,
    ),
    layer(
        "in_place_on_a_view",
        lambda: Function(_shift_first_channels),
        _shift_first_channels_in_place,
    ),
    layer(
        "in_place_arithmetic",
        lambda: Chain(
            shift=Function(lambda x: x - 0.5),
            scale=Function(lambda x: x / 0.25),
            shift_back=Function(lambda x: x + 3),
        ),
        lambda m, x: x.sub_(0.5).div_(0.25).add_(3),
    ),
    TinyNetwork(
        "normalized_input",
        lambda: Chain(
            mean=WithConstant(lambda x, c: x - c, (3, 1, 1), trainable=False),
            deviation=WithConstant(lambda x, c: x / c, (3, 1, 1), trainable=False),
            conv=conv(),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=lambda m, x: m.head(torch.relu(m.conv((x - m.mean.constant) / m.deviation.constant))),
    ),
]


# ----------------------------------------------------------------- whole architectures


def _vgg_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = F.relu(F.conv2d(x, m.conv1.weight, m.conv1.bias, padding=1), inplace=True)
    x = F.max_pool2d(x, 2)
    x = torch.relu_(F.conv2d(x, m.conv2.weight, m.conv2.bias, padding=1))
    x = torch.flatten(x, 1)
    x = F.relu(F.linear(x, m.linear1.weight, m.linear1.bias))
    x = F.dropout(x, training=m.training)
    return x @ m.linear2.weight.T + m.linear2.bias


def _residual(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.relu1(m.norm1(m.conv1(x)))
    y = m.norm2(m.conv2(y))
    return m.head(m.relu2(m.add(y, m.shortcut(x))))


def _residual_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = F.relu(m.norm1(m.conv1(x)), inplace=True)
    y = m.norm2(m.conv2(y))
    y += m.shortcut(x)
    return m.head(F.relu(y, inplace=True))


def _squeeze_excitation(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    gate = m.gate(m.expand(m.relu(m.reduce(m.pool(x)))))
    return m.head(m.multiply(x, gate))


def _squeeze_excitation_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    gate = x.mean((2, 3), keepdim=True)
    gate = F.hardsigmoid(m.expand(torch.relu(m.reduce(gate))))
    x *= gate
    return m.head(x)


def _dense(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv1(x)
    x = m.concatenate(x, m.relu1(m.conv2(x)))
    return m.head(m.relu2(m.norm(x)))


def _dense_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv1(x)
    x = torch.cat((x, F.relu(m.conv2(x))), 1)
    return m.head(m.norm(x).relu())


def _called_twice(m: nn.Module, x: Tensor) -> Tensor:
    x = m.relu(m.shared(m.stem(x)))
    return m.head(m.relu(m.shared(x)))


def _called_twice_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    for _ in range(2):
        x = m.shared(x).relu_()
    return m.head(x)


def _channel_shuffle(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    x = x.view(n, 2, channels // 2, height, width).transpose(1, 2)
    return x.reshape(n, channels, height, width)


def _split_shuffle(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv1(x)
    y = m.relu(m.conv2(m.right(x)))
    return m.head(m.shuffle(m.concatenate(m.left(x), y)))


def _split_shuffle_twin(m: nn.Module, x: Tensor) -> Tensor:
    left, right = m.conv1(x).chunk(2, dim=1)
    x = torch.cat((left, m.conv2(right).relu()), dim=1)
    return m.head(_channel_shuffle(x))


def _unused_branch(m: nn.Module, x: Tensor) -> Tensor:
    x = m.relu(m.conv(x))
    m.auxiliary(x)
    return m.head(x)


def _constant_branch(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    constant = m.project(m.query.constant)
    return m.head(m.relu(m.add(constant, x)))


def _constant_branch_twin(m: nn.Module, x: Tensor) -> Tensor:
    query = m.query.constant
    return m.head(F.relu(m.conv(x) + torch.sigmoid(query) * query))


def _detached_branch(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    x = m.add(x, m.detach(m.side(x)))
    return m.head(m.relu(x))


def _detached_branch_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    with torch.no_grad():
        side = m.side(x)
    return m.head(torch.relu(x + side))


def _ratio(m: nn.Module, x: Tensor) -> Tensor:
    return m.head(m.divide(m.conv1(x), m.softplus(m.conv2(x))))


def _ratio_twin(m: nn.Module, x: Tensor) -> Tensor:
    return m.head(m.conv1(x).div_(F.softplus(m.conv2(x))))


def _attention(m: nn.Module, x: Tensor) -> Tensor:
    similarity = m.compare(m.transpose(m.query(x)), m.key(x))
    weights = m.softmax(m.scale(similarity))
    x = m.attend(m.value(x), m.transpose(weights))
    return m.linear(m.flatten(m.pool(x)))


def _attention_twin(m: nn.Module, x: Tensor) -> Tensor:
    similarity = torch.einsum("ncl,ncm->nlm", m.query(x), m.key(x))
    weights = (similarity / 2).softmax(dim=-1)
    x = torch.bmm(m.value(x), weights.transpose(1, 2))
    return m.linear(x.mean(2))


def _vision_transformer(m: nn.Module, x: Tensor) -> Tensor:
    x = m.position(m.class_token(m.tokens(m.patches(x))))
    y = m.norm(x)
    x = m.add(x, m.attend(m.query(y), m.key(y), m.value(y)))
    return m.linear(m.first(x))


def _vision_transformer_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.patches(x).flatten(2).transpose(1, 2)
    x = torch.cat([x, m.class_token.constant.expand(len(x), -1, -1)], dim=1)
    x = x + m.position.constant
    y = m.norm(x)
    x = x + F.scaled_dot_product_attention(m.query(y), m.key(y), m.value(y))
    return m.linear(x[:, -1])


def _channels_last_block(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.norm(m.to_last(m.depthwise(x)))
    y = m.layer_scale(m.linear2(m.gelu(m.linear1(y))))
    return m.head(m.add(m.to_first(y), x))


def _channels_last_block_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.norm(m.depthwise(x).permute(0, 2, 3, 1))
    y = m.layer_scale.constant * m.linear2(F.gelu(m.linear1(y)))
    return m.head(y.permute(0, 3, 1, 2) + x)


def _to_windows(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    x = x.view(n, channels, 2, height // 2, width).transpose(1, 2)
    return x.reshape(n * 2, channels, height // 2, width)


def _from_windows(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    x = x.view(n // 2, 2, channels, height, width).transpose(1, 2)
    return x.reshape(n // 2, channels, height * 2, width)


ARCHITECTURES = [
    TinyNetwork(
        "vgg_like",
        lambda: Chain(
            conv1=conv(),
            relu1=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
            conv2=conv(WIDTH, 5),
            relu2=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),
            linear1=nn.Linear(5 * 3 * 2, 6),
            relu3=nn.ReLU(inplace=True),
            dropout=nn.Dropout(),
            linear2=nn.Linear(6, CLASSES),
        ),
        twin=_vgg_twin,
    ),
    TinyNetwork(
        "residual",
        lambda: Graph(
            _residual,
            stem=conv(),
            conv1=conv(WIDTH, 5, stride=2, bias=False),
            norm1=nn.BatchNorm2d(5),
            relu1=nn.ReLU(),
            conv2=conv(5, 5, bias=False),
            norm2=nn.BatchNorm2d(5),
            shortcut=nn.Conv2d(WIDTH, 5, 1, stride=2),
            add=Add(),
            relu2=nn.ReLU(),
            head=head(5),
        ),
        twin=_residual_twin,
    ),
    TinyNetwork(
        "squeeze_excitation",
        lambda: Graph(
            _squeeze_excitation,
            conv=conv(),
            pool=nn.AdaptiveAvgPool2d(1),
            reduce=nn.Conv2d(WIDTH, 2, 1),
            relu=nn.ReLU(),
            expand=nn.Conv2d(2, WIDTH, 1),
            gate=nn.Hardsigmoid(),
            multiply=Multiply(),
            head=head(),
        ),
        twin=_squeeze_excitation_twin,
    ),
    TinyNetwork(
        "dense",
        lambda: Graph(
            _dense,
            conv1=conv(),
            conv2=conv(WIDTH, 2),
            relu1=nn.ReLU(),
            concatenate=Concatenate(),
            norm=nn.BatchNorm2d(WIDTH + 2),
            relu2=nn.ReLU(),
            head=head(WIDTH + 2),
        ),
        twin=_dense_twin,
    ),
    TinyNetwork(
        "called_twice",
        lambda: Graph(
            _called_twice,
            stem=conv(),
            shared=conv(WIDTH),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=_called_twice_twin,
    ),
    TinyNetwork(
        "split_and_shuffle",
        lambda: Graph(
            _split_shuffle,
            conv1=conv(),
            left=Function(lambda x: x[:, : WIDTH // 2]),
            right=Function(lambda x: x[:, WIDTH // 2 :]),
            conv2=conv(WIDTH // 2, WIDTH // 2),
            relu=nn.ReLU(),
            concatenate=Concatenate(),
            shuffle=Function(_channel_shuffle),
            head=head(),
        ),
        twin=_split_shuffle_twin,
    ),
    TinyNetwork(
        "unused_branch",
        lambda: Graph(
            _unused_branch,
            conv=conv(),
            relu=nn.ReLU(),
            auxiliary=conv(WIDTH),
            head=head(),
        ),
    ),
    TinyNetwork(
        "constant_branch",
        lambda: Graph(
            _constant_branch,
            conv=conv(),
            query=add_constant((1, WIDTH, 1, 1)),
            project=nn.SiLU(),
            add=Add(),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=_constant_branch_twin,
    ),
    TinyNetwork(
        "detached_branch",
        lambda: Graph(
            _detached_branch,
            conv=conv(),
            side=conv(WIDTH),
            detach=Detach(),
            add=Add(),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=_detached_branch_twin,
    ),
    TinyNetwork(
        "ratio",
        lambda: Graph(
            _ratio,
            conv1=conv(),
            conv2=conv(),
            softplus=nn.Softplus(),
            divide=Divide(),
            head=head(),
        ),
        twin=_ratio_twin,
    ),
    TinyNetwork(
        "attention",
        lambda: Graph(
            _attention,
            query=nn.Conv1d(3, WIDTH, 1),
            key=nn.Conv1d(3, WIDTH, 1),
            value=nn.Conv1d(3, WIDTH, 3, padding=1),
            transpose=Function(lambda x: x.transpose(1, 2)),
            compare=MatrixMultiply(),
            scale=Function(lambda x: x / 2),
            softmax=nn.Softmax(dim=-1),
            attend=MatrixMultiply(),
            pool=nn.AdaptiveAvgPool1d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(WIDTH, CLASSES),
        ),
        # Logits of (query, key) have two places each, which their shape does not say.
        conventional=False,
        shapes=((2, 3, 7),),
        twin=_attention_twin,
    ),
    TinyNetwork(
        "vision_transformer",
        lambda: Graph(
            _vision_transformer,
            patches=conv(3, WIDTH, kernel_size=2, stride=2, padding=0),
            tokens=Function(lambda x: x.flatten(2).transpose(1, 2)),
            class_token=concatenate_constant((1, 1, WIDTH)),
            position=add_constant((1, 7, WIDTH)),
            norm=nn.LayerNorm(WIDTH),
            query=nn.Linear(WIDTH, WIDTH),
            key=nn.Linear(WIDTH, WIDTH),
            value=nn.Linear(WIDTH, WIDTH),
            attend=Function(F.scaled_dot_product_attention),
            add=Add(),
            first=Function(lambda x: x[:, -1]),
            linear=nn.Linear(WIDTH, CLASSES),
        ),
        twin=_vision_transformer_twin,
        conventional=False,
    ),
    TinyNetwork(
        "channels_last_block",
        lambda: Graph(
            _channels_last_block,
            stem=conv(),
            depthwise=conv(WIDTH, groups=WIDTH),
            to_last=channels_last(Function(lambda x: x.permute(0, 2, 3, 1))),
            norm=channels_last(nn.LayerNorm(WIDTH)),
            linear1=channels_last(nn.Linear(WIDTH, 6)),
            gelu=channels_last(nn.GELU()),
            linear2=channels_last(nn.Linear(6, WIDTH)),
            layer_scale=channels_last(scale_by_constant((WIDTH,))),
            to_first=Function(lambda x: x.permute(0, 3, 1, 2)),
            add=Add(),
            head=head(),
        ),
        twin=_channels_last_block_twin,
        conventional=False,
    ),
    TinyNetwork(
        "windows_in_the_batch_axis",
        lambda: Chain(
            stem=conv(),
            fold=Function(_to_windows),
            conv=conv(WIDTH),
            relu=nn.ReLU(),
            unfold=Function(_from_windows),
            head=head(),
        ),
        twin=lambda m, x: m.head(
            _from_windows(F.relu(m.conv(_to_windows(m.stem(x))), inplace=True))
        ),
        conventional=False,
    ),
]


# -------------------------------------------------- other shapes of inputs and outputs


def _multilayer_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = torch.addmm(m.linear1.bias, x, m.linear1.weight.t()).clamp_min(0)
    x = x.matmul(m.linear2.weight.t()) + m.linear2.bias
    return F.linear(F.relu(x), m.linear3.weight, m.linear3.bias)


def _two_inputs(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    image = m.flatten(m.pool(m.relu1(m.conv(image))))
    table = m.relu2(m.linear1(table))
    return m.linear3(m.relu3(m.linear2(m.concatenate(image, table))))


def _two_inputs_twin(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    image = F.relu(m.conv(image)).mean((2, 3))
    table = F.relu(m.linear1(table))
    x = torch.cat([image, table], dim=1)
    return m.linear3(m.linear2(x).relu_())


def _gated_by_table(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    gate = m.sigmoid(m.view(m.linear(table)))
    return m.head(m.relu(m.multiply(m.conv(image), gate)))


def _gated_by_table_twin(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    gate = m.linear(table)[:, :, None, None].sigmoid()
    x = m.conv(image)
    x.mul_(gate)
    return m.head(x.relu_())


def _one_dimension_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.norm(F.conv1d(x, m.conv1.weight, m.conv1.bias)).relu_()
    x = F.max_pool1d(x, 2)
    x = F.conv1d(x, m.conv2.weight, m.conv2.bias).relu_()
    return m.linear(x.flatten(1))


def _three_dimensions_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.norm(F.conv3d(x, m.conv1.weight, m.conv1.bias)).relu_()
    x = F.max_pool3d(x, (1, 2, 2), ceil_mode=True)
    x = F.conv3d(x, m.conv2.weight, m.conv2.bias).relu_()
    return m.linear(x.view(len(x), -1))


SHAPES = [
    TinyNetwork(
        "multilayer_perceptron",
        lambda: Chain(
            linear1=nn.Linear(5, 6),
            relu1=nn.ReLU(),
            linear2=nn.Linear(6, 4),
            relu2=nn.ReLU(),
            linear3=nn.Linear(4, CLASSES),
        ),
        shapes=((3, 5),),
        target=[0, 2, 1],
        twin=_multilayer_twin,
    ),
    TinyNetwork(
        "normalized_perceptron",
        lambda: Chain(
            linear1=nn.Linear(5, 6),
            norm=nn.BatchNorm1d(6),
            gelu=nn.GELU(),
            linear2=nn.Linear(6, CLASSES),
        ),
        shapes=((2, 5),),
    ),
    TinyNetwork(
        "scalar_output",
        lambda: Chain(
            conv=conv(),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(WIDTH, 1),
            squeeze=nn.Flatten(0),
        ),
        target=None,
        twin=lambda m, x: m.linear(F.relu(m.conv(x)).mean((2, 3))).squeeze(1),
    ),
    TinyNetwork(
        "one_dimension",
        lambda: Chain(
            conv1=nn.Conv1d(3, WIDTH, 3),
            norm=nn.BatchNorm1d(WIDTH),
            relu1=nn.ReLU(),
            pool=nn.MaxPool1d(2),
            conv2=nn.Conv1d(WIDTH, WIDTH, 2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            linear=nn.Linear(WIDTH * 2, CLASSES),
        ),
        shapes=((2, 3, 9),),
        twin=_one_dimension_twin,
    ),
    TinyNetwork(
        "three_dimensions",
        lambda: Chain(
            conv1=nn.Conv3d(2, 3, 2),
            norm=nn.BatchNorm3d(3),
            relu1=nn.ReLU(),
            pool=nn.MaxPool3d((1, 2, 2), ceil_mode=True),
            conv2=nn.Conv3d(3, 3, 2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            linear=nn.Linear(3, CLASSES),
        ),
        shapes=((2, 2, 3, 4, 4),),
        twin=_three_dimensions_twin,
    ),
    TinyNetwork(
        "image_and_table",
        lambda: Graph(
            _two_inputs,
            conv=conv(),
            relu1=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear1=nn.Linear(5, 6),
            relu2=nn.ReLU(),
            concatenate=Concatenate(),
            linear2=nn.Linear(WIDTH + 6, 4),
            relu3=nn.ReLU(),
            linear3=nn.Linear(4, CLASSES),
        ),
        shapes=(IMAGES, (2, 5)),
        twin=_two_inputs_twin,
    ),
    TinyNetwork(
        "image_gated_by_table",
        lambda: Graph(
            _gated_by_table,
            linear=nn.Linear(5, WIDTH),
            view=nn.Unflatten(1, (WIDTH, 1, 1)),
            sigmoid=nn.Sigmoid(),
            conv=conv(),
            multiply=Multiply(),
            relu=nn.ReLU(),
            head=head(),
        ),
        shapes=(IMAGES, (2, 5)),
        twin=_gated_by_table_twin,
    ),
]


TINY_NETWORKS = [*ACTIVATIONS, *LAYERS, *CONSTANTS, *ARCHITECTURES, *SHAPES]
