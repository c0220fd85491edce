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
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad import TGradAttribution

SHAPES = {"exact": (3, 4, 4, 6), "grid": (2, 4, 12, 24), "anything": (3, 4, 4, 6)}
CONSTANT = -0.8765


class Step(NamedTuple):
    """An operation on a tensor whose first dimension counts the samples.

    ``apply`` takes the tensor, two of its other dimensions ``d`` and ``e`` (equal where it has just
    one), a number ``k`` from 1 to 3, and the sizes ``s`` and ``n = s[d]``. Where it returns None or
    raises an error, the operation is not for tensors of this shape.
    """

    name: str
    apply: Callable[..., Tensor | None]


def steps(table: str) -> list[Step]:
    """The steps of a table: expressions, semicolons between, some with a condition."""
    found = []
    for entry in table.split(";"):
        code = " ".join(entry.split())
        otherwise = " else None" if " if " in code else ""
        apply = eval(f"lambda x, d, e, k, s, n: {code}{otherwise}", globals())
        found.append(Step(code.partition(" if ")[0], apply))
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


def pads(x: Tensor, d: int, before: int, after: int) -> list[int]:
    return [0, 0] * (x.dim() - 1 - d) + [before, after]


def constants(x: Tensor) -> Tensor:
    return torch.full_like(x, CONSTANT)


def assigned(canvas: Tensor, index: object, value: Tensor | float) -> Tensor:
    canvas = canvas.clone()
    canvas[index] = value
    return canvas


def conv(x: Tensor, size: int, **options: Any) -> Tensor:
    return F.conv2d(x, weights(4, x.shape[1], size, size), weights(4), **options)


def dense(x: Tensor) -> Tensor:
    return F.linear(x, weights(4, x.shape[-1]), weights(4))


MOVES = steps("""
    x.flip(d); torch.flip(x, [d, e]); torch.fliplr(x); x.rot90(k, (d, e)) if d != e; x.roll(k, d);
    torch.roll(x, (k, -1), (d, e)) if d != e; torch.roll(x, shifts=-k, dims=-1); x.transpose(d, e);
    torch.swapaxes(x, d - len(s), e); x.clone().transpose_(d, e); x.mT if len(s) > 2;
    x.movedim(d, -1); torch.moveaxis(x, (d, e), (e, d)); x.permute(0, *range(len(s) - 1, 0, -1));
    x.unsqueeze(d); x[:, None]; x.unsqueeze(-1).flip(d).squeeze(-1); x.flatten(1);
    x.flatten(d, d + 1); x.ravel().reshape(s[0], -1); x.reshape(s[0], n, -1);
    x.contiguous().view(s[0], -1, n); x.unflatten(d, (2, -1));
    x.unflatten(d, (-1, 2)).movedim(d + 1, 1); x.narrow(d, k, n - k); x[at(d, slice(k, None))];
    x[at(d, slice(None, -k))]; x[..., -k:]; x[at(d, k)]; x[..., -1]; x.select(d, k);
    x[at(d, [*range(k, n), 0])]; x[at(d, order(n))]; x[at(d, order(n) != 0)]; x[:, some(*s[1:])];
    x[:, order(min(s[1:3])), order(min(s[1:3])).flip(0)];
    x.masked_select(some(*s[1:])).reshape(s[0], -1); x.index_select(d, order(n));
    x.take(torch.arange(x.numel()).reshape(s).flip(d)); x.gather(d, along(x, d));
    torch.take_along_dim(x, along(x, d), d); torch.cat([x, x.flip(d)], d);
    torch.cat([x, constants(x)], d); torch.cat([constants(x.narrow(d, 0, 1)), x], dim=d);
    torch.hstack((x.flip(1), x)); torch.stack([x, x.flip(d)], d); torch.cat(x.split(k, d)[::-1], d);
    torch.stack([constants(x), x], -1); x.split([k, n - k], d)[1]; x.tensor_split([k], dim=d)[1];
    torch.cat(x.chunk(2, d)[::-1], d); torch.cat(x.tensor_split(2, d)[::-1], d);
    torch.stack(x.unbind(d)[::-1], e); x.repeat(*[1] * d, 2, *[1] * (len(s) - d - 1)); x.tile(2);
    x.repeat_interleave(2, d); x.unsqueeze(d).expand(*s[:d], 2, *s[d:]);
    x[:, None].broadcast_to((s[0], 2, *s[1:])); F.pad(x, pads(x, d, k, 1), value=CONSTANT);
    F.pad(x, pads(x, d, 0, k)); F.pad(x, pads(x, d, -k, 0));
    F.pad(x, (1, 1) * (len(s) - 2), "reflect"); F.pad(x, (1, 0) * (len(s) - 2), "replicate");
    F.pad(x, (0, 1) * (len(s) - 2), "circular"); F.channel_shuffle(x, 2) if len(s) == 4;
    F.pixel_unshuffle(x, 2) if len(s) == 4; F.unfold(x, 2) if len(s) == 4;
    F.pixel_shuffle(F.pixel_unshuffle(x, 2).flip(3), 2) if len(s) == 4;
    F.unfold(x, (2, 2), stride=2) if len(s) == 4; x.unfold(d, 2, 1); x.unfold(d, 2, 2);
    x.sort(d).values; torch.sort(x, dim=d, descending=True)[0]; x.topk(k, d).values;
    x.take_along_dim(x.argsort(d), d); torch.where(some(*s[1:]), x, x.flip(d));
    torch.where(some(*s[1:]), x, CONSTANT); x.masked_fill(some(*s[1:]), CONSTANT);
    x.clone().masked_fill_(some(*s[1:]), CONSTANT); x.index_fill(d, torch.tensor([0]), CONSTANT);
    constants(x).masked_scatter(torch.ones_like(x, dtype=torch.bool), x);
    constants(x).index_put((torch.arange(s[0])[:, None], order(s[1])), x);
    x.clone().index_put_((torch.arange(s[0]), order(s[1])[:1]), torch.tensor(CONSTANT).double());
    constants(x).index_copy(d, order(n), x); constants(x).scatter(d, along(x, d), x);
    torch.zeros_like(x).index_add(d, order(n), x); torch.zeros_like(x).copy_(x.flip(d));
    torch.zeros_like(x).scatter_add(d, along(x, d), x); x.diagonal(0, d, e);
    x.tril(k) if len(s) > 2; x.scatter(d, along(x, d).narrow(d, 0, 1), CONSTANT);
    assigned(constants(x), at(d, order(n)), x);
    assigned(F.pad(constants(x), pads(x, d, k, 1)), at(d, slice(k, n + k)), x);
    assigned(x, at(d, 0), x[at(d, -1)]); assigned(x, (slice(None), some(*s[1:])), CONSTANT);
    x.clone().slice_scatter(constants(x)[at(d, [0])], d, 0, 1);
    x.clone().select_scatter(x.select(d, -1), d, 0); x.movedim(0, -1).flip(d - 1).movedim(-1, 0);
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
    x.flip(d); x.transpose(d, e); x.rot90(k, (2, 3)); x.narrow(d, 1, n - 1);
    x[at(d, slice(None, -k))]; F.pad(x, (-1, 0, 0, -1)); F.pad(x, (1, 1, 1, 1), "reflect");
    F.pad(x, (1, 0, 1, 1), "replicate"); torch.cat([x, x.flip(1)], 1); x.repeat(1, 2, 1, 1);
    F.silu(F.pad(x, (k, 1, 0, k), value=CONSTANT))[:, :, : s[2], k : k + s[3]];
    torch.cat([x, constants(x)[:, :1]], 1); torch.where(some(s[1], 1, 1), x, x.sigmoid())
""")
# Cells come side by side that are not neighbors in the image.
GRID_SEAMS = steps("""
    x.roll(k, d); torch.roll(x, (-k, 1), (d, e)); x.flip(0).roll(k, d).flip(0);
    x.index_select(d, order(n)); x.gather(d, along(x, d)); F.pad(x, (1, 2, 0, 1), "circular");
    assigned(constants(x), at(d, order(n)), x)
""")
GRID_MIXES = steps("""
    conv(x, 1); conv(x, 3, padding=1); conv(x, 3, padding="same"); conv(x, 3); conv(x, 2, stride=2);
    conv(F.pad(x, (1, 1, 1, 1)), 3); conv(x, 3, padding=2, dilation=2);
    conv(x, 3, padding=1, stride=2); x + conv(x, 3, padding=1).sum(1, keepdim=True);
    F.conv2d(x, weights(s[1], 1, 3, 3), weights(s[1]), padding=1, groups=s[1]);
    F.conv_transpose2d(x, weights(s[1], 4, 2, 2), weights(4), stride=2);
    F.conv1d(x.transpose(1, 2).flatten(0, 1), weights(4, s[1], 3), weights(4), padding=1)
        .unflatten(0, (-1, s[2])).transpose(1, 2);
    F.avg_pool2d(x, 2); F.avg_pool2d(x, 3, stride=2, padding=1); F.max_pool2d(x, 2);
    F.max_pool2d(x, 3, stride=1, padding=1); F.adaptive_avg_pool2d(x, (s[2] // 2, s[3] // 2));
    F.interpolate(x, scale_factor=2); F.interpolate(x, scale_factor=2, mode="bilinear");
    F.pixel_shuffle(conv(x, 1), 2); x[at(d, slice(k % 2, None, 2))]; x[:, :, ::2, ::2];
    x.softmax(1); F.local_response_norm(x, 3); dense(x.permute(0, 2, 3, 1)).movedim(-1, 1);
    torch.einsum("nchw,dc->ndhw", x, weights(4, s[1])) + weights(4, 1, 1);
    (weights(4, s[1]) @ x.flatten(2)).unflatten(2, s[2:]) + weights(4, *s[2:]);
    F.layer_norm(x.movedim(1, -1), (s[1],), weights(s[1]), weights(s[1])).movedim(-1, 1);
    F.batch_norm(x, weights(s[1]), weights(s[1]).abs() + 1, weights(s[1]), weights(s[1]));
    F.glu(torch.cat([x, x.flip(1)], 1), 1); x * F.conv2d(x, weights(1, s[1], 1, 1)).sigmoid();
    torch.cat([x, x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
""")
# Several cells become the channels of one, which are mixed: its place is the middle of theirs.
GRID_PATCHES = steps("""
    conv(F.pixel_unshuffle(x, 2), 1);
    dense(F.unfold(x, 2, stride=2).mT).mT.unflatten(2, (s[2] // 2, s[3] // 2));
    dense(x.unfold(2, 2, 2).unfold(3, 2, 2).movedim(1, 3).flatten(3)).movedim(3, 1);
    dense(x.unflatten(d, (-1, 2)).movedim(d + 1, 1).flatten(1, 2).movedim(1, -1)).movedim(-1, 1)
""")
# Every place of the output depends on all others.
GRID_GLOBAL = steps("""
    F.group_norm(x, 2, weights(s[1]), weights(s[1])); F.layer_norm(x, s[1:]);
    F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3).mT.unflatten(2, s[2:])
""")
GRID = GRID_MOVES + GRID_SEAMS + GRID_MIXES + GRID_PATCHES + GRID_GLOBAL
ANYTHING = steps("""
    dense(x); x @ weights(s[-1], 4); x @ x.mT if len(s) > 2;
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
FIRST = {"exact": MOVES, "grid": GRID, "anything": ANYTHING + ELEMENTWISE}
WRAPS = [("x", "x"), ("x.flip(0)", "x.flip(0)"), ("x.roll(1, 0)", "x.roll(-1, 0)")]
WRAPS += [("x.flatten(0, 1)", "x.unflatten(0, (-1, {}))")]
SIGNS = {"positive": 1, "negative": -1}
BENDS = {step.name for step in ELEMENTWISE}
MIXES = {step.name for step in GRID_MIXES + GRID_PATCHES}


class Call(NamedTuple):
    step: Step
    d: int = 1
    e: int = 1
    k: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        return self.step.apply(x, self.d, self.e, self.k, x.shape, x.shape[self.d])


def called(name: str, *numbers: int) -> Call:
    return Call(*steps(name), *numbers)


class Program:
    """Calls one after the other; the output is a weighted sum of what the last returns."""

    def __init__(self, kind: str, x: Tensor, calls: Iterable[Call] = ()) -> None:
        self.kind, self.x, self.calls = kind, x, list(calls)
        self.last = self.results(x)[-1]
        self.weights = torch.ones_like(self.last)

    def results(self, x: Tensor) -> list[Tensor]:
        """The input, then what each call returns."""
        return list(accumulate(self.calls, lambda last, call: call(last), initial=x))

    def output(self, x: Tensor, samples: slice = slice(None)) -> Tensor:
        return (self.results(x)[-1] * self.weights[samples]).flatten(1).sum(1)

    def slope(self, x: Tensor, samples: slice = slice(None)) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(self.output(x, samples).sum(), x)[0]

    def __str__(self) -> str:
        lines = [f"x of shape {tuple(self.x.shape)}"]
        for call, after in zip(self.calls, self.results(self.x)[1:], strict=True):
            numbers = f"d={call.d} e={call.e} k={call.k}"
            lines.append(f"x = {call.step.name}  # {numbers}: {tuple(after.shape)}")
        return "\n    ".join(lines)

    def append(self, call: Call) -> bool:
        """Adds a call if its result is of use; whether it is."""
        try:
            after = call(self.last)
        except (RuntimeError, IndexError, ValueError, TypeError):
            return False
        useful = (
            after is not None
            and 2 <= after.dim() <= 6
            and 0 < after.numel() <= 4 * max(self.x.numel(), 300)
            and not (self.kind == "grid" and min(after.shape[2:]) < 2)
            and bool((after.abs() < 50).all())
        )
        if useful:
            self.calls.append(call)
            self.last = after
        return useful

    def add(self, choice: list[Step], chance: random.Random) -> bool:
        """Adds one of the steps where it fits; whether there is one."""
        for _ in range(50):
            step, dims = chance.choice(choice), range(1, self.last.dim())
            if step in GRID:
                dims = dims[1:] if len(dims) == 3 else dims[:0]
            d, e = chance.sample(dims, 2) if len(dims) > 1 else (1, 1)
            if dims and self.append(Call(step, d, e, chance.randint(1, 3))):
                return True
        return False

    def fill(self, first: Step, chance: random.Random) -> bool:
        """Adds ``first`` and others at random; whether that was possible."""
        count, most = chance.randint, MOVES + ANYTHING * 2 + ELEMENTWISE + GRID
        if self.kind == "grid":
            seams = first in GRID_SEAMS or (first not in GRID_PATCHES and count(0, 1))
            most = GRID_MOVES + GRID_MIXES + ELEMENTWISE + (GRID_SEAMS if seams else GRID_PATCHES)
            if first in GRID_GLOBAL or count(0, 1):
                row, column, most = count(0, 4), count(0, 18), most + GRID_GLOBAL
                self.append(called(f"x[:, :, {row}:{row + 8}, {column}:{column + 6}]"))
        stages = [*[most] * count(0, 2), [first], most, most]
        if self.kind == "exact":
            stages = [[first], *[MOVES] * count(0, 2), ELEMENTWISE, *[MOVES] * count(0, 3)]
            stages += [ELEMENTWISE] * count(0, 1) + [MOVES] * count(0, 1)
        early = count(0, 1)
        if not all(self.add(choice, chance) for choice in stages[:early]):
            return False
        opening, closing = chance.choice(WRAPS[:-1] if self.kind == "grid" else WRAPS)
        closing = closing.format(self.last.shape[1])
        return (
            self.append(called(opening))
            and all(self.add(choice, chance) for choice in stages[early:])
            and self.append(called(closing))
        )


def drawn(kind: str, seed: int) -> Program:
    """The program of a seed, in which every sample counts and the oracle knows the places."""
    for attempt in range(300):
        chance = random.Random(f"{kind} {seed} {attempt}")
        generator = torch.Generator().manual_seed(chance.randrange(2**32))
        values = torch.linspace(-1.4, 1.6, math.prod(SHAPES[kind]), dtype=torch.float64)
        values = values[torch.randperm(len(values), generator=generator)]
        program = Program(kind, values.reshape(SHAPES[kind]))
        if not program.fill(FIRST[kind][seed % len(FIRST[kind])], chance):
            continue
        program.weights = torch.randn(program.last.shape, generator=generator).double()
        if kind == "grid":  # only one corner counts
            rows, columns = (-(-size // 3) for size in program.last.shape[2:])
            program.weights[:, :, rows:], program.weights[:, :, :, columns:] = 0, 0
        if kind == "exact" and not only_pixels_count(program):
            continue
        slope, alone = program.slope(program.x), program.slope(program.x[:1], slice(1))
        if not torch.allclose(alone, slope[:1]) or not slope.flatten(1).any(1).all():
            continue  # torch itself may be wrong, as it is for an instance norm of one sample
        if kind != "grid" or float(field_of(program).double().mean()) < 0.75:
            return program
    raise RuntimeError(f"no {kind} program of the seed {seed}")


def pixels_of(values: Tensor, image: Tensor) -> Tensor:
    """The number of the element of ``image`` that each value is a copy of; -1 where it is none."""
    known, number = image.flatten().sort()
    right = torch.searchsorted(known, values.contiguous()).clamp(1, len(known) - 1)
    nearest = right - (values - known[right - 1] < known[right] - values).long()
    return torch.where((known[nearest] - values).abs() < 1e-9, number[nearest], -1)


def only_pixels_count(program: Program) -> bool:
    """Gives constants the weight 0; whether all pixels still differ and no slice is strided."""
    image = program.x
    for call, after in zip(program.calls, program.results(image)[1:], strict=True):
        if call.step.name in BENDS:
            image = call._replace(d=1)(image)
        if not (image.flatten().sort().values.diff() > 1e-6).all():
            return False
        pixels = pixels_of(after, image)
        pixels = pixels[pixels >= 0]
        for line in (pixels // image.shape[3] % image.shape[2], pixels % image.shape[3]):
            gaps = line.unique().diff()
            if len(gaps) and int(gaps.min()) > 1:
                return False  # every other row is understood as a coarser grid
    program.weights *= pixels_of(program.last, image) >= 0
    return True


def terms_of(program: Program) -> list[tuple[Tensor, Tensor]]:
    """``c`` and the pixels of its elements: of the input, then of each elementwise operation."""
    image, start = program.x, program.x.clone().requires_grad_()
    results = program.results(start)
    outputs, biases, pixels = [start], [program.x], [torch.arange(start.numel()).view_as(start)]
    for call, (before, after) in zip(program.calls, pairwise(results), strict=True):
        if call.step.name in BENDS:
            z = before.detach().requires_grad_()
            (slope,) = torch.autograd.grad(call(z).sum(), z)
            outputs.append(after)
            biases.append((after - slope * z).detach())
            pixels.append(pixels_of(before.detach(), image))
            image = call._replace(d=1)(image)
    slopes = torch.autograd.grad((results[-1] * program.weights).sum(), outputs)
    terms = [slope * bias for slope, bias in zip(slopes, biases, strict=True)]
    return list(zip(terms, pixels, strict=True))


def expected_map(program: Program, sign: int) -> Tensor:
    """The paper's eq. 8, where each element is at its pixel: shape (N, H, W)."""
    empty, total = torch.zeros_like(program.x), torch.zeros_like(program.x[:, 0])
    for contribution, pixels in terms_of(program):
        own, known = sign * contribution, pixels >= 0
        assert not own[~known].any()
        signed, evidence = (
            empty.flatten().index_add(0, pixels[known], part[known]).view_as(empty).sum(1)
            for part in (own, own.clamp_min(0))
        )
        share = signed.sum((1, 2)).clamp_min(0) / evidence.sum((1, 2)).clamp_min(1e-300)
        total += share[:, None, None] * evidence
    return total


def field_of(program: Program) -> Tensor:
    """Where there is a gradient at any of several inputs, and one cell around that."""
    generator = torch.Generator().manual_seed(0)
    reached = torch.zeros(program.x.shape[2:], dtype=torch.bool)
    for x in [program.x, *torch.randn(6, *program.x.shape, generator=generator).double()]:
        reached |= program.slope(x).flatten(0, 1).any(0)
    cell = 1
    for call, (x, after) in zip(program.calls, pairwise(program.results(program.x)), strict=True):
        if call.step.name in MIXES:
            sizes = zip(x.shape[2:], after.shape[2:], strict=True)
            cell *= max(-(-size // left) for size, left in sizes)
    return F.max_pool2d(reached[None].double(), 2 * cell + 1, 1, cell)[0] > 0


def check_sums_and_samples(program: Program) -> None:
    x, whole = program.x, TGradAttribution(program.output).decompose(program.x)
    scores = torch.stack([term.score for term in whole.terms])
    allowed = 1e-9 * scores.abs().sum(0)
    assert torch.allclose(whole.output, program.output(x), rtol=1e-12), "wrong output"
    assert ((whole.output - scores.sum(0)).abs() <= allowed).all(), "wrong sum"
    for i in range(len(x)):
        one = slice(i, i + 1)
        alone = TGradAttribution(lambda x, one=one: program.output(x, one)).decompose(x[one])
        assert [term.name for term in alone.terms] == [term.name for term in whole.terms]
        own = torch.stack([term.score[0] for term in alone.terms])
        assert ((scores[:, i] - own).abs() <= allowed[i]).all(), f"wrong sample {i}"


def check_places(program: Program) -> None:
    method = TGradAttribution(program.output)
    maps = {sign: method.attribute(program.x, sign=sign).sum(1) for sign in SIGNS}
    total = sum(float(evidence.sum()) for evidence in maps.values())
    for sign, evidence in maps.items():
        if program.kind == "exact":
            wrong = (evidence - expected_map(program, SIGNS[sign])).abs().sum() / total
        else:
            wrong = evidence[:, ~field_of(program)].sum() / total
        assert wrong <= 1e-9, f"wrong place: {float(wrong):.2g} of the evidence, {sign}"


def check(kind: str, seeds: Iterable[int]) -> None:
    """Reports all programs with a wrong sum, sample or place. There may be no warning either."""
    failures = []
    for seed in seeds:
        program = drawn(kind, seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                if kind == "anything":  # any dimension is mixed there
                    warnings.filterwarnings("ignore", ".*pass channel_dim=", UserWarning)
                check_sums_and_samples(program)
                if kind != "anything":
                    check_places(program)
                other = Program(
                    kind, program.x.flip(3), program.calls
                )  # nothing of the first is left
                if kind == "exact" and only_pixels_count(other):
                    check_places(other)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            failures.append(f"{kind} program {seed}: {reason}\n    {program}")
    if failures:
        pytest.fail("\n\n".join([f"{len(failures)} programs fail", *failures]), pytrace=False)


@pytest.mark.parametrize(
    ("kind", "start"), [(kind, i) for kind in SHAPES for i in range(0, len(FIRST[kind]), 20)]
)
def test_programs(kind, start):
    check(kind, range(start, start + 20))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1700, 100))
@pytest.mark.parametrize("kind", SHAPES)
def test_many_programs(kind, start):
    check(kind, range(start, start + 100))


X = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(1, 1, 2, 3)  # 1 2 3, 4 5 6
SQUARE = called("x.square()")


def test_the_oracle_follows_a_mirror():
    program = Program("exact", X, [called("x.flip(d)", 3), SQUARE])
    program.weights[..., 1:] = 0
    # 3 and 6 are in the first column: the derivative is 2 x, and what squaring adds x^2 - 2 x^2.
    assert expected_map(program, 1).tolist() == [[[0, 0, 18], [0, 0, 72]]]
    assert expected_map(program, -1).tolist() == [[[0, 0, 9], [0, 0, 36]]]


def test_the_oracle_follows_the_largest():
    program = Program(
        "exact", X, [called("x.topk(k, d).values", 2), called("x.roll(k, d)", 3), SQUARE]
    )
    assert expected_map(program, -1).tolist() == [[[0, 0, 0], [16, 25, 36]]]


def test_the_oracle_gives_constants_no_weight_and_refuses_strides():
    program = Program("exact", X, [called("torch.cat([x, constants(x)], d)", 3), SQUARE])
    assert only_pixels_count(program)
    assert program.weights.tolist() == [[[[1, 1, 1, 0, 0, 0]] * 2]]
    assert expected_map(program, -1).tolist() == [[[1, 4, 9], [16, 25, 36]]]
    assert not only_pixels_count(Program("exact", X, [called("x[..., ::2]")]))


def test_the_oracle_adds_up():
    for seed in range(30):
        program = drawn("exact", seed)
        total = sum(contribution.sum() for contribution, _ in terms_of(program))
        torch.testing.assert_close(total, program.output(program.x).sum())


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [  # with one more cell on each side
        ("F.conv2d(x, weights(4, s[1], 3, 3), weights(4), padding=1)", (0, 3), (4, 7)),
        ("F.avg_pool2d(x, 2)", (2, 8), (7, 13)),
        ("x[:, :, ::2, ::2]", (2, 8), (6, 12)),
    ],
)
def test_the_oracle_knows_the_receptive_field(name, first, last):
    program = Program("grid", torch.ones(1, 2, 12, 24).double(), [called(name)])
    program.weights *= 0
    program.weights[:, :, 2, 5] = 1
    where = field_of(program).nonzero()
    assert (*where.amin(0), *where.amax(0)) == (*first, *last)
