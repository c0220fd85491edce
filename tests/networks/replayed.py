"""Networks whose later calls replay the first one: most kinds of nodes of autograd are in one."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import Normalize


def ready(network):
    """In eval mode, with parameters and statistics that all matter."""
    torch.manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.3 + torch.rand_like(tensor) * torch.randn_like(tensor).sign())
    for name, tensor in network.named_buffers():
        if name.endswith("running_var"):
            tensor.abs_()
    return network.eval()


def images(*shape, seed=1):
    return torch.randn(*shape or (2, 3, 9, 9), generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    """Convolutions with and without biases, batch norms, a sum, a concatenation and poolings."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.main = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU6(inplace=True)
        )
        self.side = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.stem(x), inplace=True)
        y = self.main(x)
        y += self.side(x)
        x = torch.cat([self.pool(F.leaky_relu(y)), F.avg_pool2d(x, 3, 2, 1)], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Tokens(nn.Module):
    """A transformer over patches, with class tokens and positions."""

    def __init__(self, token=(1, 1, 8), tokens=1):
        super().__init__()
        self.tokens = tokens
        self.patches = nn.Conv2d(3, 8, 3, stride=3)
        self.token = nn.Parameter(torch.ones(token))
        self.positions = nn.Parameter(torch.ones(1, 9 + tokens, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.plain, self.norm = nn.LayerNorm(8, elementwise_affine=False), nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.scale, self.keep = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(9 + tokens, 1))
        self.last = nn.LayerNorm([9 + tokens, 8], bias=False)
        self.head = nn.Linear(8, 3)
        self.options = {}

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), self.tokens, 8), x], 1) + self.positions
        y = self.plain(x)
        x = x + self.attention(y, y, y, need_weights=False, **self.options)[0]
        x = self.last(x + self.mlp(self.norm(x)) * self.scale)
        return self.head(x[:, 0]) + F.silu((x * self.keep).sum(1))[:, :3]


class Gated(nn.Module):
    """Convolutions with gates, smooth activations, and a shuffle of channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.gate, self.hard = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.drop = nn.Dropout(0.2, inplace=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.silu(self.norm(self.stem(x)), inplace=True)
        x = torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1))) * x
        first, second = x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2).chunk(2, 1)
        x = torch.cat([first, F.hardswish(second)], 1)
        x = x * F.hardsigmoid(self.hard(x.mean((2, 3), keepdim=True)))
        x = x.permute(0, 2, 3, 1).mean((1, 2))
        return self.head(self.drop(x))


class Parts(nn.Module):
    """Tensors that are taken apart, stacked, enlarged, subtracted and divided."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.shift = nn.Parameter(torch.empty(6, 1, 1))
        self.scale = nn.Parameter(torch.empty(2, 1, 1))
        self.unit = nn.Parameter(torch.empty(1))
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = F.relu(self.stem(x) - self.shift)
        one, two, three = x.split([1, 2, 3], 1)
        first, second = two.unbind(1)
        pair = self.scale - torch.stack([second, first], 1)
        large = [
            F.interpolate(F.avg_pool2d(part, 2), size=x.shape[2:], mode=mode)
            for part, mode in ((one, "nearest"), (two, "bilinear"), (three, "bicubic"))
        ]
        parts = [pair / two.sigmoid(), self.scale / two.sigmoid(), *large]
        return self.head((torch.cat(parts, 1) / self.unit).mean((2, 3)))


class Moved(nn.Module):
    """Tensors that are padded, shifted, folded and enlarged, and the norm of groups of channels."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.empty(3, 1, 1))
        self.register_buffer("shift", torch.empty(()))
        self.sharpness = nn.Parameter(torch.empty(()))
        self.table = nn.Parameter(torch.empty(5))
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.large = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(12, 3)
        self.padding = 0.0

    def forward(self, x):
        x = F.pad(x - self.mean, (1, 0, 0, 1), value=self.padding)
        x = F.leaky_relu(self.norm(self.stem(x)), 0.1, inplace=True)
        picked = self.table[[4, 0, 2, 1, 3, 3, 1, 0]].view(2, 4).permute(1, 0).transpose(-2, -1)
        x = x + picked.t().contiguous().view(8, 1).unsqueeze(-1)
        focus = (x * (x * self.sharpness).flatten(2).softmax(-1).view_as(x)).sum((2, 3))
        weights = (x.mean((2, 3), keepdim=True) + self.shift).softmax(1)
        x = x * weights.expand(-1, -1, *x.shape[2:]) * 2
        x = torch.tanh(F.pad(x, (1, 1, 1, 1), mode="reflect")).roll((1, 2), (2, 3)).flip(3)
        y = self.large(-x).pow(3)
        z = F.pixel_shuffle(x, 2).square().unfold(2, 4, 2).sum(-1)
        y = y.amax((2, 3)) + y.max(3)[0].repeat(1, 1, 2).min(2)[0]
        parts = [y, F.adaptive_max_pool2d(x, 1).flatten(1)[:, :2], z.mean((2, 3))]
        return self.head(torch.cat([*parts, focus[:, :4]], 1)).softmax(1)


class Units(nn.Module):
    """Activations, a table of positions, numbers, and vectors that are scaled to the length 1."""

    def __init__(self):
        super().__init__()
        self.stem, self.slope = nn.Conv2d(3, 8, 3, stride=3), nn.PReLU(8)
        self.positions = nn.Embedding(9, 8)
        self.head = nn.Linear(8, 3)
        self.offset, self.margin = 0, 0.5

    def forward(self, x):
        x = self.slope(self.stem(x / 0.5 - 0.25)).flatten(2).transpose(1, 2)
        x = F.elu(x + self.positions(torch.arange(9)), 0.7)
        x = torch.stack([sum([x, x.clamp(-1, 1)]), x.clamp_min(-0.2), x.clamp_max(0.3)])
        x = F.normalize((1 - x).mean(0), dim=-1) + self.offset
        return (self.head(x).mean(1) - self.margin).softmax(1)


class Smooth(nn.Module):
    """Elementwise functions that have a derivative everywhere, or nearly."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=3)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        y = F.mish(x) + F.softplus(x, 2, 1) + F.celu(x, 0.7) + F.logsigmoid(x) + x.sin() + x.cos()
        y = y + x.atan() + torch.erf(x) + (-x.abs()).exp() + torch.log1p(x.exp())
        x = y.square() + 1
        return self.head((y + x.log() + x.rsqrt() + x.reciprocal() + x.sqrt()).mean((2, 3)))


class Raw(nn.Module):
    """Attention, products and a quotient of the input itself."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
        y = F.scaled_dot_product_attention(x, x, x) * x / x.sigmoid()
        y = y + ((x @ x.mT).softmax(-1) @ x) / 2 + torch.bmm(x[:, 0].mT, x[:, 0])[:, None, :1]
        return self.head(y.mean((1, 2)))


class Volume(nn.Module):
    """Convolutions, poolings and enlargements of volumes."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv3d(3, 4, 3, padding=1), nn.GroupNorm(4, 4)
        self.up = nn.ConvTranspose3d(4, 4, 2, stride=2)
        self.head = nn.Conv3d(4, 3, 1)

    def forward(self, x):
        x = x[:, :, None, :8, :8].expand(-1, -1, 4, -1, -1)
        x = F.gelu(self.norm(self.stem(x)), approximate="tanh")
        x = self.up(F.max_pool3d(x, 2))
        x = F.interpolate(F.avg_pool3d(x, 2), scale_factor=4, mode="trilinear")
        return self.head(x).mean((2, 3, 4))


class Resized(nn.Module):
    """A signal or a volume that is padded and resized in all ways."""

    def __init__(self, dims):
        super().__init__()
        self.dims = dims
        self.stem = (nn.Conv1d, nn.Conv3d)[dims == 3](3, 4, 3, padding=1)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = x.flatten(2) if self.dims == 1 else x[:, :, :8].unflatten(2, (2, 4))
        x = F.silu(self.stem(x))
        pads = [1, 1] * self.dims
        pool, best = (
            (F.adaptive_avg_pool1d, F.adaptive_max_pool1d),
            (F.adaptive_avg_pool3d, F.adaptive_max_pool3d),
        )[self.dims == 3]
        parts = [F.pad(x, pads, mode="reflect"), F.pad(x, pads, mode="replicate")]
        parts += [
            F.interpolate(x, scale_factor=2.0, mode=mode)
            for mode in ("nearest", "nearest-exact", ("linear", "trilinear")[self.dims == 3])
        ]
        sums = sum(pool(part.tanh(), 2) * best(part, 2) for part in parts)
        return self.head(torch.cat([sums, sums.tanh(), sums.sigmoid()], 1).flatten(2).sum(2))


class Normalized(nn.Module):
    """A network that normalizes its input by numbers, as torchvision's transform does."""

    def __init__(self):
        super().__init__()
        self.normalize = Normalize([0.4, 0.5, 0.6], [0.2, 0.2, 0.3])
        self.head = nn.Linear(243, 3)

    def forward(self, x):
        return self.head(self.normalize(x).flatten(1))
