"""Random programs, compared with an oracle that shares no code with the package.

There are three kinds. In each, the terms must add up and every sample must have its own scores.

* ``exact``: operations that move elements, and elementwise ones. All elements of the input differ,
  so the value of a moved element says which element it is a copy of. What is no copy is a constant
  and has the weight 0 in the output. The whole map follows by plain autograd.
* ``grid``: convolutions, poolings, patches, strided slices and so on, where only a part of the
  image can matter. No evidence may be where plain autograd never finds a gradient.
* ``anything``: all of these, and what has no place.

A failure prints its program as lines that can be run.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad import TGradAttribution

SHAPES = {"exact": (3, 4, 4, 6), "grid": (2, 4, 12, 24), "anything": (3, 4, 4, 6)}
CONSTANT = -0.8765


class Step(NamedTuple):
    """An operation on a tensor whose first dimension counts the samples.

    ``apply`` and ``fits`` take the tensor, two of its other dimensions ``d`` and ``e`` (equal where
    it has just one), a number ``k`` from 1 to 3, and the sizes ``s`` and ``n = s[d]``. A step also
    does not fit where ``apply`` raises an error.
    """

    name: str
    apply: Callable[..., Tensor]
    fits: Callable[..., bool]


def steps(table: str) -> list[Step]:
    """The steps of a table: expressions with a semicolon between, maybe with a condition."""
    found = []
    for entry in table.replace("\n", " ").split("; "):
        name, _, condition = entry.strip().partition(" if ")
        functions = (f"lambda x, d, e, k, s, n: {part}" for part in (name, condition or "True"))
        found.append(Step(" ".join(name.split()), *(eval(each, globals()) for each in functions)))
    return found


@cache
def order(size: int) -> Tensor:
    """Some permutation."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(size))


@cache
def some(*shape: int) -> Tensor:
    """A mask of two thirds of the elements."""
    return order(math.prod(shape)).reshape(shape) % 3 != 0


@cache
def weights(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    return values / max(math.prod(shape[1:]), 1) ** 0.5


def at(d: int, item: object) -> tuple[object, ...]:
    return (slice(None),) * d + (item,)


def along(x: Tensor, d: int) -> Tensor:
    """An index that permutes along a dimension, in the shape of the tensor."""
    index = order(x.shape[d])
    return index.reshape([-1 if i == d else 1 for i in range(x.dim())]).expand(x.shape)


def times(x: Tensor, d: int) -> list[int]:
    return [2 if i == d else 1 for i in range(x.dim())]


def pads(x: Tensor, d: int, before: int, after: int) -> list[int]:
    return [0, 0] * (x.dim() - 1 - d) + [before, after]


def constants(x: Tensor) -> Tensor:
    return torch.full_like(x, CONSTANT)


def assigned(canvas: Tensor, index: object, value: Tensor | float) -> Tensor:
    canvas = canvas.clone()
    canvas[index] = value
    return canvas


MOVES = steps("""
    x.flip(d); torch.flip(x, [d, e]); torch.fliplr(x); x.rot90(k, (d, e)) if d != e;
    x.roll(k, d); torch.roll(x, (k, -1), (d, e)) if d != e; torch.roll(x, shifts=-k, dims=-1);
    x.transpose(d, e); torch.swapaxes(x, d - len(s), e); x.clone().transpose_(d, e);
    x.movedim(d, -1); torch.moveaxis(x, (d, e), (e, d)); x.mT if len(s) > 2;
    x.permute(0, *range(len(s) - 1, 0, -1)); x.unsqueeze(d); x[:, None];
    x.unsqueeze(-1).flip(d).squeeze(-1); x.flatten(1); x.flatten(d, d + 1);
    x.ravel().reshape(s[0], -1); x.unflatten(d, (2, -1)); x.reshape(s[0], n, -1);
    x.contiguous().view(s[0], -1, n); x.unflatten(d, (-1, 2)).movedim(d + 1, 1);
    x.narrow(d, k, n - k); x[at(d, slice(k, None))]; x[at(d, slice(None, -k))]; x[..., -k:];
    x[at(d, k)]; x[..., -1]; x.select(d, k); x[at(d, [*range(k, n), 0])]; x[at(d, order(n))];
    x[:, order(min(s[1:3])), order(min(s[1:3])).flip(0)]; x[at(d, order(n) != 0)];
    x[:, some(*s[1:])]; x.masked_select(some(*s[1:])).reshape(s[0], -1);
    x.take(torch.arange(x.numel()).reshape(s).flip(d)); x.index_select(d, order(n));
    x.gather(d, along(x, d)); torch.take_along_dim(x, along(x, d), d);
    torch.cat([x, x.flip(d)], d); torch.cat([x, constants(x)], d); torch.hstack((x.flip(1), x));
    torch.cat([constants(x.narrow(d, 0, 1)), x], dim=d); torch.stack([x, x.flip(d)], d);
    torch.stack([constants(x), x], -1); torch.cat(x.split(k, d)[::-1], d);
    x.split([k, n - k], d)[1]; torch.cat(x.chunk(2, d)[::-1], d); x.tensor_split([k], dim=d)[1];
    torch.cat(x.tensor_split(2, d)[::-1], d); torch.stack(x.unbind(d)[::-1], e);
    x.repeat(times(x, d)); x.tile(times(x, d)); x.repeat_interleave(2, d);
    x.unsqueeze(d).expand(*s[:d], 2, *s[d:]); x[:, None].broadcast_to((s[0], 2, *s[1:]));
    F.pad(x, pads(x, d, k, 1), value=CONSTANT); F.pad(x, pads(x, d, 0, k));
    F.pad(x, pads(x, d, -k, 0)); F.pad(x, (1, 1) * (len(s) - 2), "reflect");
    F.pad(x, (1, 0) * (len(s) - 2), "replicate"); F.pad(x, (0, 1) * (len(s) - 2), "circular");
    F.pixel_unshuffle(x, 2) if len(s) == 4; F.channel_shuffle(x, 2) if len(s) == 4;
    F.pixel_shuffle(F.pixel_unshuffle(x, 2).flip(3), 2) if len(s) == 4;
    F.unfold(x, 2) if len(s) == 4; F.unfold(x, (2, 2), stride=2) if len(s) == 4;
    x.unfold(d, 2, 1); x.unfold(d, 2, 2); x.sort(d).values; x.topk(k, d).values;
    torch.sort(x, dim=d, descending=True)[0]; x.take_along_dim(x.argsort(d), d);
    torch.where(some(*s[1:]), x, x.flip(d)); torch.where(some(*s[1:]), x, CONSTANT);
    x.masked_fill(some(*s[1:]), CONSTANT); x.clone().masked_fill_(some(*s[1:]), CONSTANT);
    constants(x).masked_scatter(torch.ones_like(x, dtype=torch.bool), x);
    constants(x).index_put((torch.arange(s[0])[:, None], order(s[1])), x);
    x.clone().index_put_((torch.arange(s[0]), order(s[1])[:1]), torch.tensor(CONSTANT).double());
    constants(x).index_copy(d, order(n), x); x.index_fill(d, torch.tensor([0]), CONSTANT);
    torch.zeros_like(x).index_add(d, order(n), x); constants(x).scatter(d, along(x, d), x);
    torch.zeros_like(x).scatter_add(d, along(x, d), x);
    x.scatter(d, along(x, d).narrow(d, 0, 1), CONSTANT);
    assigned(F.pad(constants(x), pads(x, d, k, 1)), at(d, slice(k, n + k)), x);
    assigned(constants(x), at(d, order(n)), x); assigned(x, at(d, 0), x[at(d, -1)]);
    assigned(x, (slice(None), some(*s[1:])), CONSTANT); torch.zeros_like(x).copy_(x.flip(d));
    x.slice_scatter(constants(x)[at(d, [0])], d, 0, 1); x.select_scatter(x.select(d, -1), d, 0);
    x.diagonal(0, d, e); x.tril(k) if len(s) > 2; x.movedim(0, -1).flip(d - 1).movedim(-1, 0);
    x.transpose(0, d).roll(k, 0).transpose(0, d); torch.cat([x, x.flip(d)])[s[0]:];
    torch.stack([one.flip(d - 1) for one in x]); torch.cat([one.roll(k, d) for one in x.split(1)])
""")
ELEMENTWISE = steps("""
    F.silu(x); F.silu(x.clone(), inplace=True); F.gelu(x); F.gelu(x, approximate="tanh"); F.elu(x);
    F.selu(x); F.celu(x, 0.7); F.mish(x); F.softplus(x); F.softsign(x); F.tanhshrink(x);
    F.logsigmoid(x); F.hardswish(x); F.leaky_relu(x); torch.sigmoid(x); x.clone().sigmoid_();
    x.tanh(); x.clone().transpose(0, d).tanh_().transpose(0, d); x.exp(); x.expm1(); x.sin();
    x.atan(); x.erf(); x.square(); x ** (k + 1); x * x; x + 0.3; 0.4 - x; x.clone().sub_(0.7);
    x * 1.3; x / 1.3
""")
# All channels of a cell stay at one place; d and e are the two spatial dimensions.
GRID_MOVES = steps("""
    x.flip(d); x.roll(k, d); torch.roll(x, (-k, 1), (d, e)); x.transpose(d, e); x.rot90(k, (2, 3));
    x.narrow(d, 1, n - 1); x[at(d, slice(None, -k))]; x.index_select(d, order(n));
    x.gather(d, along(x, d)); x.flip(0).roll(k, d).flip(0); F.pad(x, (1, 1, 1, 1), "reflect");
    F.pad(x, (1, 0, 1, 1), "replicate"); F.pad(x, (1, 2, 0, 1), "circular");
    F.pad(x, (-1, 0, 0, -1));
    F.silu(F.pad(x, (k, 1, 0, k), value=CONSTANT))[:, :, : s[2], k : k + s[3]];
    assigned(constants(x), at(d, order(n)), x); torch.cat([x, x.flip(1)], 1); x.repeat(1, 2, 1, 1);
    torch.cat([x, constants(x)[:, :1]], 1); torch.where(some(s[1], 1, 1), x, x.sigmoid())
""")
GRID_MIXES = steps("""
    F.conv2d(x, weights(4, s[1], 1, 1), weights(4));
    F.conv2d(x, weights(4, s[1], 3, 3), weights(4), padding=1);
    F.conv2d(x, weights(4, s[1], 3, 3), weights(4), padding="same");
    F.conv2d(x, weights(4, s[1], 3, 3), weights(4));
    F.conv2d(F.pad(x, (1, 1, 1, 1)), weights(4, s[1], 3, 3), weights(4));
    F.conv2d(x, weights(4, s[1], 3, 3), weights(4), padding=2, dilation=2);
    F.conv2d(x, weights(s[1], 1, 3, 3), weights(s[1]), padding=1, groups=s[1]);
    F.conv2d(x, weights(4, s[1], 3, 3), weights(4), padding=1, stride=2);
    F.conv2d(x, weights(4, s[1], 2, 2), weights(4), stride=2);
    F.conv_transpose2d(x, weights(s[1], 4, 2, 2), weights(4), stride=2);
    F.conv1d(x.transpose(1, 2).flatten(0, 1), weights(4, s[1], 3), weights(4), padding=1)
        .unflatten(0, (-1, s[2])).transpose(1, 2);
    F.avg_pool2d(x, 2); F.avg_pool2d(x, 3, stride=2, padding=1); F.max_pool2d(x, 2);
    F.max_pool2d(x, 3, stride=1, padding=1); F.adaptive_avg_pool2d(x, (s[2] // 2, s[3] // 2));
    F.interpolate(x, scale_factor=2); F.interpolate(x, scale_factor=2, mode="bilinear");
    x[at(d, slice(k % 2, None, 2))]; x[:, :, ::2, ::2];
    F.conv2d(F.pixel_unshuffle(x, 2), weights(4, 4 * s[1], 1, 1));
    F.pixel_shuffle(F.conv2d(x, weights(8, s[1], 1, 1), weights(8)), 2);
    F.linear(F.unfold(x, 2, stride=2).mT, weights(4, 4 * s[1]), weights(4))
        .mT.unflatten(2, (s[2] // 2, s[3] // 2));
    F.linear(x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3),
        weights(4, 4 * s[1]), weights(4)).permute(0, 3, 1, 2);
    F.linear(x.unflatten(d, (-1, 2)).movedim(d + 1, 1).flatten(1, 2).movedim(1, -1),
        weights(4, 2 * s[1]), weights(4)).movedim(-1, 1);
    F.linear(x.permute(0, 2, 3, 1), weights(4, s[1]), weights(4)).movedim(-1, 1);
    torch.einsum("nchw,dc->ndhw", x, weights(4, s[1])) + weights(4, 1, 1);
    (weights(4, s[1]) @ x.flatten(2)).unflatten(2, s[2:]) + weights(4, *s[2:]);
    F.layer_norm(x.movedim(1, -1), (s[1],), weights(s[1]), weights(s[1])).movedim(-1, 1);
    F.batch_norm(x, weights(s[1]), weights(s[1]).abs() + 1, weights(s[1]), weights(s[1]));
    F.local_response_norm(x, 3); x.softmax(1); F.glu(torch.cat([x, x.flip(1)], 1), 1);
    torch.cat([x, x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1);
    x + F.conv2d(x, weights(s[1], s[1], 3, 3), weights(s[1]), padding=1);
    x * F.conv2d(x, weights(1, s[1], 1, 1), weights(1)).sigmoid()
""")
# Every place of the output depends on all others.
GRID_GLOBAL = steps("""
    F.group_norm(x, 2, weights(s[1]), weights(s[1])); F.instance_norm(x);
    F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3).mT.unflatten(2, s[2:])
""")
GRID = GRID_MOVES + GRID_MIXES + GRID_GLOBAL
ANYTHING = steps("""
    F.linear(x, weights(5, s[-1]), weights(5)); x @ weights(s[-1], 4); x @ x.mT if len(s) > 2;
    torch.einsum("n...c,cd->nd...", x.movedim(d, -1), weights(n, 3));
    torch.tensordot(x, weights(n, 3), dims=([d], [0])); torch.bmm(x.flatten(2), x.flatten(2).mT);
    (x @ x.mT).softmax(-1) @ x if len(s) > 2;
    F.scaled_dot_product_attention(x, x.flip(d), x) if len(s) > 2;
    x.mean(d); x.sum(d, keepdim=True); x.amax(d); x.max(d).values; x.logsumexp(d, keepdim=True);
    x.var(d, keepdim=True) if n > 1; torch.linalg.vector_norm(x, dim=d, keepdim=True);
    x.softmax(d); F.log_softmax(x, d); F.normalize(x, dim=d); F.glu(x, d);
    F.layer_norm(x, s[-1:], weights(s[-1]), weights(s[-1]));
    F.group_norm(x, 1, weights(s[1]), weights(s[1]));
    F.batch_norm(x, weights(s[1]), weights(s[1]).abs() + 1);
    x * x.mean(d, keepdim=True).sigmoid(); x + x.flip(d); x * x.roll(k, d);
    torch.maximum(x, x.flip(d)); torch.lerp(x, x.flip(d), 0.3); torch.where(x > 0, x, x.square());
    torch.stack([F.silu(part) for part in x.unbind(d)], d);
    assigned(x, at(d, 0), x[at(d, 0)].square()); x.clone().add_(weights(*s[1:]));
    torch.addcmul(x, x, weights(*s[1:]), value=0.5); x.clamp(-0.5, 0.7); F.relu6(3 * x);
    F.hardtanh(x); F.hardsigmoid(x); F.relu(x); x.abs() + 1; 1 / (x.square() + 1);
    F.conv1d(x, weights(4, s[1], 3), weights(4), padding=1) if len(s) == 3;
    F.avg_pool1d(x, 2) if len(s) == 3; F.max_pool1d(x, 2) if len(s) == 3;
    F.dropout(x, training=False)
""")
WRAPS = [("x.flip(0)", "x.flip(0)"), ("x.roll(1, 0)", "x.roll(-1, 0)")]
WRAPS += [("x.flatten(0, 1)", "x.unflatten(0, (-1, {}))")]
CHOICES = {"exact": MOVES, "grid": GRID, "anything": ANYTHING + ELEMENTWISE}


class Call(NamedTuple):
    step: Step
    d: int = 1
    e: int = 1
    k: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        return self.step.apply(x, *self[1:], x.shape, x.shape[self.d])

    def on(self, x: Tensor) -> Tensor | None:
        """What it returns; None where it does not fit."""
        try:
            if self.step.fits(x, *self[1:], x.shape, x.shape[self.d]):
                return self(x)
        except (RuntimeError, IndexError, ValueError, TypeError):
            pass
        return None


def call(name: str, d: int = 1, e: int = 1, k: int = 1) -> Call:
    return Call(*steps(name), d, e, k)


class Program:
    """Random calls one after the other; their output is a weighted sum of the last result."""

    def __init__(self, kind: str, seed: str) -> None:
        self.kind, self.seed, self.calls = kind, seed, list[Call]()
        self.random = random.Random(f"{kind} {seed}")
        generator = torch.Generator().manual_seed(self.random.randrange(2**32))
        values = torch.linspace(-1.4, 1.6, math.prod(SHAPES[kind]), dtype=torch.float64)
        shuffled = values[torch.randperm(len(values), generator=generator)]
        self.now = self.x = shuffled.reshape(SHAPES[kind])
        count, choices = self.random.randint, CHOICES[kind]
        first = [choices[int(seed.split(".")[0]) % len(choices)]]  # each step has its turn
        if kind == "exact":
            stages = [first, *[MOVES] * count(0, 2), ELEMENTWISE, *[MOVES] * count(0, 3)]
            stages += [ELEMENTWISE] * count(0, 1) + [MOVES] * count(0, 1)
        elif kind == "grid":
            most = GRID_MOVES + GRID_MIXES + ELEMENTWISE
            if first[0] in GRID_GLOBAL or count(0, 1):
                row, column, most = count(0, 4), count(0, 18), most + GRID_GLOBAL
                self.append(call(f"x[:, :, {row}:{row + 8}, {column}:{column + 6}]"))
            stages = [*[most] * count(0, 2), first, most, most]
        else:
            most = MOVES + ANYTHING * 2 + ELEMENTWISE + GRID
            stages = [*[most] * count(0, 2), first, most, most]
        self.fill(stages)
        self.weights = torch.randn(self.now.shape, generator=generator, dtype=torch.float64)
        if kind == "grid":  # only one corner counts
            rows, columns = (-(-size // 3) for size in self.now.shape[2:])
            self.weights[:, :, rows:], self.weights[:, :, :, columns:] = 0, 0

    def fill(self, stages: list[list[Step]]) -> None:
        """One step of each; around some, the samples are in another order or folded."""
        start = self.random.randrange(2 * len(stages))
        stop = self.random.randrange(start, 2 * len(stages))
        closing = None
        for position, choice in enumerate(stages):
            if position == start:
                opening, wrapped = self.random.choice(WRAPS[: 2 if self.kind == "grid" else 3])
                wrapped = wrapped.format(self.now.shape[1])
                closing = call(wrapped) if self.append(call(opening)) else None
            while not self.add(choice):
                self.add(GRID_MOVES if self.kind == "grid" else MOVES)  # to another shape
            if closing and position in (stop, len(stages) - 1):
                self.calls.append(closing)
                self.now, closing = closing(self.now), None

    def add(self, choice: list[Step]) -> bool:
        """Adds one of the steps where it fits; whether there is one."""
        for _ in range(50):
            step, dims = self.random.choice(choice), range(1, self.now.dim())
            if step in GRID:
                dims = dims[1:] if len(dims) == 3 else dims[:0]
            if dims:
                d, e = self.random.sample(dims, 2) if len(dims) > 1 else (1, 1)
                if self.append(Call(step, d, e, self.random.randint(1, 3))):
                    return True
        return False

    def append(self, call: Call) -> bool:
        """Adds a call whose result is of use; whether it is."""
        after = call.on(self.now)
        useful = (
            after is not None
            and 2 <= after.dim() <= 6
            and 0 < after.numel() <= 4 * max(self.x.numel(), 300)
            and bool((after.abs() < 50).all())
            and not (self.kind == "grid" and min(after.shape[2:]) < 2)
        )
        if useful:
            self.calls.append(call)
            self.now = after
        return useful

    def results(self, x: Tensor) -> list[Tensor]:
        """The input and what each call returns."""
        return list(accumulate(self.calls, lambda last, call: call(last), initial=x))

    def output(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        weights = self.weights if weights is None else weights
        return (self.results(x)[-1] * weights).flatten(1).sum(1)

    def slope(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(self.output(x).sum(), x)[0]

    def __str__(self) -> str:
        lines = [f"{self.kind} program {self.seed}, x of shape {tuple(self.x.shape)}:"]
        for each, after in zip(self.calls, self.results(self.x)[1:], strict=True):
            lines.append(f"    x = {each.step.name}  # d={each.d} e={each.e} k={each.k}")
            lines[-1] += f": {tuple(after.shape)}"
        return "\n".join(lines)


def program_of(kind: str, seed: int) -> Program:
    """The program of a seed, in which each sample matters, and what the oracle needs is true."""
    for attempt in range(1000):
        program = Program(kind, f"{seed}.{attempt}")
        if kind == "exact" and not prepare_exact(program):
            continue
        slope = program.slope(program.x)
        if not slope.isfinite().all() or not slope.flatten(1).any(1).all():
            continue
        if kind != "grid" or float(field_of(program).double().mean()) < 0.75:
            return program
    raise RuntimeError(f"no {kind} program of the seed {seed}")


def pixels_of(values: Tensor, image: Tensor) -> Tensor:
    """The number of the element of ``image`` that each value is a copy of; -1 where it is none."""
    known, number = image.flatten().sort()
    right = torch.searchsorted(known, values.contiguous()).clamp(1, len(known) - 1)
    nearest = right - (values - known[right - 1] < known[right] - values).long()
    return torch.where((known[nearest] - values).abs() < 1e-9, number[nearest], -1)


def terms_of(program: Program) -> list[tuple[Tensor, Tensor]]:
    """``c`` and the pixels of its elements: of the input, then of each elementwise operation."""
    image, start = program.x, program.x.clone().requires_grad_()
    results = program.results(start)
    outputs, biases, pixels = [start], [program.x], [torch.arange(start.numel())]
    for each, before, after in zip(program.calls, results, results[1:], strict=False):
        if each.step in ELEMENTWISE:
            z = before.detach().requires_grad_()
            (slope,) = torch.autograd.grad(each(z).sum(), z)
            outputs.append(after)
            biases.append((after - slope * z).detach())
            pixels.append(pixels_of(before.detach(), image))
            image = each._replace(d=1)(image)
    slopes = torch.autograd.grad((results[-1] * program.weights).sum(), outputs)
    terms = [slope * bias for slope, bias in zip(slopes, biases, strict=True)]
    return list(zip(terms, pixels, strict=True))


def map_of(contribution: Tensor, pixels: Tensor, like: Tensor) -> Tensor:
    """The positive part by pixel, summed over channels: shape (N, H, W)."""
    evidence, pixels = contribution.flatten().clamp_min(0), pixels.flatten()
    assert not evidence[pixels < 0].any()
    known = pixels >= 0
    image = torch.zeros_like(like).flatten().index_add(0, pixels[known], evidence[known])
    return image.reshape(like.shape).sum(1)


def expected_map(program: Program, sign: int) -> Tensor:
    """The paper's eq. 8, where each element is at its pixel."""
    total = torch.zeros_like(program.x[:, 0])
    for contribution, pixels in terms_of(program):
        own = map_of(sign * contribution, pixels, program.x)
        other = map_of(-sign * contribution, pixels, program.x)
        mass = own.sum((1, 2))
        share = torch.where(mass > 0, (mass - other.sum((1, 2))).clamp_min(0) / mass, 0)
        total += share[:, None, None] * own
    return total


def prepare_exact(program: Program) -> bool:
    """Gives constants the weight 0; whether values tell elements apart, and no slice is strided."""
    image = program.x
    for each, after in zip(program.calls, program.results(image)[1:], strict=True):
        if each.step in ELEMENTWISE:
            image = each._replace(d=1)(image)
        if not (image.flatten().sort().values.diff() > 1e-6).all():
            return False
        pixels = pixels_of(after, image)
        pixels = pixels[pixels >= 0]
        rows, columns = pixels // image.shape[3] % image.shape[2], pixels % image.shape[3]
        gaps = [line.unique().diff() for line in (rows, columns)]
        if any(len(gap) and int(gap.min()) > 1 for gap in gaps):
            return False  # every other row is understood as a coarser grid
    program.weights *= pixels_of(program.now, image) >= 0
    return True


def field_of(program: Program) -> Tensor:
    """Where there is a gradient at any of several inputs, and one cell around that."""
    generator = torch.Generator().manual_seed(0)
    reached = torch.zeros(program.x.shape[2:], dtype=torch.bool)
    for _ in range(6):
        x = torch.randn(program.x.shape, generator=generator, dtype=torch.float64)
        reached |= (program.slope(x) != 0).any(0).any(0)
    cell, results = 1, program.results(program.x)
    for each, before, after in zip(program.calls, results, results[1:], strict=False):
        if each.step in GRID_MIXES:
            sizes = zip(before.shape[2:], after.shape[2:], strict=True)
            cell *= max(-(-size // left) for size, left in sizes)
    return F.max_pool2d(reached[None].double(), 2 * cell + 1, 1, cell)[0] > 0


def check(program: Program) -> None:
    """Asserts that sums, samples and places are right."""
    x, kept = program.x, program.weights
    method = TGradAttribution(program.output)
    whole = method.decompose(x)
    scores = torch.stack([term.score for term in whole.terms])
    scale = scores.abs().sum(0)
    assert torch.allclose(whole.output, program.output(x), rtol=1e-12), "wrong output"
    assert bool(((whole.output - scores.sum(0)).abs() <= 1e-9 * scale).all()), "wrong sum"
    for i in range(len(x)):
        one = slice(i, i + 1)
        alone = TGradAttribution(lambda x, own=kept[one]: program.output(x, own)).decompose(x[one])
        assert [term.name for term in alone.terms] == [term.name for term in whole.terms]
        own = torch.stack([term.score[0] for term in alone.terms])
        assert bool(((scores[:, i] - own).abs() <= 1e-9 * scale[i]).all()), f"wrong sample {i}"
    for sign, name in ((1, "positive"), (-1, "negative")):
        if program.kind == "exact":
            actual, expected = method.attribute(x, sign=name).sum(1), expected_map(program, sign)
            largest = float((actual - expected).abs().max() / expected.max().clamp_min(1e-30))
            assert largest <= 1e-9, f"wrong place: the {name} map is {largest:.2g} off"
        if program.kind == "grid":
            actual = method.attribute(x, sign=name).sum(1)
            outside = actual[:, ~field_of(program)].sum() / actual.sum().clamp_min(1e-30)
            assert outside <= 1e-9, f"wrong place: {outside:.2g} of the {name} map is elsewhere"


def check_all(kind: str, seeds: Iterable[int]) -> None:
    failures = []
    for seed in seeds:
        program = program_of(kind, seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                check(program)
        except Exception as error:
            failures.append(f"{program}\n{type(error).__name__}: {error}")
    if failures:
        pytest.fail("\n\n".join([f"{len(failures)} programs fail:", *failures]), pytrace=False)


def chunks(first: int, count: int, size: int) -> list[object]:
    return [
        pytest.param(kind, range(start, min(start + size, first + count)), id=f"{kind}-{start}")
        for kind in SHAPES
        for start in range(first, first + count, size)
    ]


@pytest.mark.parametrize(("kind", "seeds"), chunks(0, 60, 10))
def test_programs(kind, seeds):
    check_all(kind, seeds)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seeds"), chunks(60, 607, 60))
def test_many_programs(kind, seeds):
    check_all(kind, seeds)
