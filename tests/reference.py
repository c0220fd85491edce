"""The slow, literal T-Grad that the tests of the package are measured against.

It follows the paper's section 3 word for word and shares no code with the package:
one sample at a time, in float64, with plain loops. Nothing is in closed form; what an
operation adds on its own comes from the explicit dense Jacobian of that operation.

It needs networks in which every operation is a leaf module called with positional
tensors (``tests.networks`` has them), and with which nobody looks at a tensor
again after an in-place module has overwritten it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, relu

INTERPOLATION_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
PADDINGS = (nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d)


@dataclass(frozen=True)
class Contribution:
    """One summand of equation 6, element by element.

    Attributes:
        name: the path of the module; ``path#2`` for its second call; ``input``.
        samples: for every sample n the tensor ``df_n/dy * b_n``, shaped like the
            output y of the operation when the network sees that sample alone:
            (1, C, *spatial), or (1, F) where it has no place.
        reaches: for every input of the network, whether y depends on it.
        channel_axis: the axis of y that holds the channels.
        padding: cells of y that lie beside the image, as ``torch.nn.functional.pad`` takes
            them: they have no place on it, and what is in them is spread evenly over it.
    """

    name: str
    samples: tuple[Tensor, ...]
    reaches: tuple[bool, ...]
    channel_axis: int = 1
    padding: tuple[int, ...] = ()

    @property
    def values(self) -> Tensor:
        """All samples in one tensor, shaped like y for the whole batch."""
        return torch.cat(self.samples)

    @property
    def score(self) -> Tensor:
        """Signed, shape (N,)."""
        return torch.stack([sample.sum() for sample in self.samples])

    @property
    def positive(self) -> Tensor:
        """S of equation 7, shape (N, 1, *spatial), or (N, 1) without a place."""
        return torch.stack([self.at_places(relu(sample)) for sample in self.samples])

    @property
    def negative(self) -> Tensor:
        """S of equation 7 for the evidence against; shaped like ``positive``."""
        return torch.stack([self.at_places(relu(-sample)) for sample in self.samples])

    def at_places(self, sample: Tensor) -> Tensor:
        """Sum over the channels: (1, C, *spatial) to (1, *spatial).

        Where the network folded parts of the sample into the batch axis, that axis is
        longer than 1 and summed too. A tensor of shape (1,) has one channel.
        """
        if sample.dim() == 1:
            sample = sample.unsqueeze(1)
        cells = sample.movedim(self.channel_axis, 1).sum(dim=(0, 1)).unsqueeze(0)
        image = self._on_image(cells)
        return image + (cells.sum() - image.sum()) / image.numel()

    def is_beside_the_image(self, sample: Tensor) -> bool:
        """Whether all evidence of the sample is in the padding."""
        return len(self.padding) > 0 and not bool(self._on_image(sample).any())

    def _on_image(self, values: Tensor) -> Tensor:
        return pad(values, [-width for width in self.padding])


@dataclass(frozen=True)
class Decomposition:
    """Equation 6: ``output == sum of the scores of inputs and biases``."""

    output: Tensor
    inputs: tuple[Contribution, ...]
    biases: tuple[Contribution, ...]

    @property
    def terms(self) -> tuple[Contribution, ...]:
        return self.inputs + self.biases

    @property
    def nonzero_biases(self) -> tuple[Contribution, ...]:
        """The bias terms that are more than rounding, in forward order."""
        largest = max(float(term.values.abs().max()) for term in self.terms)
        return tuple(
            term for term in self.biases if float(term.values.abs().max()) > 1e-13 * largest
        )


@dataclass(frozen=True)
class _Call:
    """One call of a leaf module, as seen from its hooks."""

    name: str
    module: nn.Module
    arguments: tuple[Tensor, ...]
    depends: tuple[bool, ...]
    output: Tensor


def decompose(
    network: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    target: int | tuple[int, ...] | Sequence | Tensor | None = None,
) -> Decomposition:
    """Equation 6 for every sample; ``network`` and ``inputs`` are not touched.

    ``target`` is one class (or index tuple) for all samples, a list or tensor with one
    for each, or None where the network has a single output.
    """
    network = copy.deepcopy(network).double().requires_grad_(False)
    inputs = _as_tuple(inputs)
    outputs = []
    samples = []
    for sample in range(len(inputs[0])):
        ones = tuple(
            x[sample : sample + 1].detach().double().clone().requires_grad_() for x in inputs
        )
        output, terms = _decompose_one(network, ones, _target_of(target, sample))
        outputs.append(output)
        samples.append(terms)
    merged = []
    for same in zip(*samples, strict=True):
        merged.append(
            Contribution(
                same[0].name,
                tuple(term.samples[0] for term in same),
                same[0].reaches,
                same[0].channel_axis,
                same[0].padding,
            )
        )
    return Decomposition(
        torch.stack(outputs), tuple(merged[: len(inputs)]), tuple(merged[len(inputs) :])
    )


def _decompose_one(
    network: nn.Module, inputs: tuple[Tensor, ...], target: tuple[int, ...]
) -> tuple[Tensor, list[Contribution]]:
    """The target's output for one sample, its input terms and its bias terms."""
    output, calls = _record_calls(network, inputs)
    value = output[0][target]
    if value.numel() != 1:
        raise ValueError(f"target {target} leaves {value.numel()} outputs, not one")
    value = value.sum()
    terms = []
    for index, x in enumerate(inputs):
        gradient = _gradient(value, x)
        name = "input" if len(inputs) == 1 else f"input#{index + 1}"
        reaches = tuple(other is x for other in inputs)
        terms.append(Contribution(name, (gradient * x.detach(),), reaches))
    for call in calls:
        gradient = _gradient(value, call.output)
        reaches = tuple(_depends(call.output, x) for x in inputs)
        channel_axis = getattr(call.module, "channel_axis", 1)
        contribution = gradient * _bias(call)
        padding = call.module.padding if type(call.module) in PADDINGS else ()
        terms.append(Contribution(call.name, (contribution,), reaches, channel_axis, padding))
    return value.detach(), terms


def _record_calls(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, list[_Call]]:
    """Run the network; list the leaf modules' calls that depend on an input."""
    calls: list[_Call] = []
    counts: dict[str, int] = {}
    pending: dict[str, tuple[Tensor, ...]] = {}
    handles = []

    def hook_up(path: str, module: nn.Module) -> None:
        def before(module, arguments):
            pending[path] = arguments
            return tuple(argument.clone() for argument in arguments)

        def after(module, arguments, output):
            arguments = pending.pop(path)
            counts[path] = counts.get(path, 0) + 1
            if not output.requires_grad:
                return
            name = path if counts[path] == 1 else f"{path}#{counts[path]}"
            depends = tuple(argument.requires_grad for argument in arguments)
            detached = tuple(argument.detach().clone() for argument in arguments)
            calls.append(_Call(name, module, detached, depends, output))

        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(after))

    for path, module in network.named_modules():
        if not list(module.children()):
            hook_up(path, module)
    try:
        output = network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return output, calls


def _bias(call: _Call) -> Tensor:
    """``b = y - sum over the inputs z of J z``, with explicit dense Jacobians J."""
    dependents = tuple(
        argument for argument, depends in zip(call.arguments, call.depends, strict=True) if depends
    )

    def operation(*dependents: Tensor) -> Tensor:
        remaining = list(dependents)
        arguments = []
        for argument, depends in zip(call.arguments, call.depends, strict=True):
            arguments.append(remaining.pop(0) if depends else argument)
        return call.module(*[argument.clone() for argument in arguments])

    jacobians = torch.autograd.functional.jacobian(operation, dependents)
    bias = call.output.detach().clone()
    for jacobian, z in zip(jacobians, dependents, strict=True):
        bias = bias - torch.tensordot(jacobian, z, dims=z.dim())
    return bias


def _gradient(value: Tensor, tensor: Tensor) -> Tensor:
    """``d value / d tensor``; zeros where the value does not use the tensor."""
    (gradient,) = torch.autograd.grad(value, tensor, retain_graph=True, allow_unused=True)
    return torch.zeros_like(tensor) if gradient is None else gradient


def _depends(output: Tensor, x: Tensor) -> bool:
    (gradient,) = torch.autograd.grad(output.sum(), x, retain_graph=True, allow_unused=True)
    return gradient is not None


def _target_of(target, sample: int) -> tuple[int, ...]:
    """The index into one sample's output."""
    if isinstance(target, Tensor):
        target = target.tolist()
    if isinstance(target, list):
        target = target[sample]
    if target is None:
        return ()
    return target if isinstance(target, tuple) else (target,)


def phi(saliency: Tensor, spatial: Sequence[int]) -> Tensor:
    """Enlarge maps to the size ``spatial`` of an input, then divide by their sum.

    Maps with another number of spatial dimensions than the input has have no place on
    it: they become 1x1 maps. (N, 1, *any) to (N, 1, *spatial).
    """
    enlarged = []
    for sample in range(len(saliency)):
        one = saliency[sample : sample + 1]
        if one.dim() - 2 != len(spatial):
            one = one.sum().reshape(1, 1, *[1 for _ in spatial])
        if len(spatial) > 0:
            one = resized(one, spatial)
        total = one.sum()
        enlarged.append(one / total if total > 0 else torch.zeros_like(one))
    return torch.cat(enlarged)


def resized(cells: Tensor, spatial: Sequence[int]) -> Tensor:
    """Linear interpolation where the map is coarser than ``spatial``, averages where finer."""
    for axis, extent in enumerate(spatial, start=2):
        if cells.shape[axis] > extent:
            cells = averaged(cells, axis, extent)
    mode = INTERPOLATION_MODES[len(spatial)]
    return interpolate(cells, size=tuple(spatial), mode=mode, align_corners=False)


def averaged(cells: Tensor, axis: int, extent: int) -> Tensor:
    """Along one axis, each of ``extent`` coarser cells is the mean of the finer cells in it.

    A finer cell that lies in two of them counts for as much as lies in either.
    """
    finer = cells.shape[axis]
    coarse = []
    for cell in range(extent):
        start, end = cell * finer / extent, (cell + 1) * finer / extent
        total = torch.zeros_like(cells.select(axis, 0))
        for number in range(finer):
            inside = min(end, number + 1) - max(start, number)
            if inside > 0:
                total = total + inside * cells.select(axis, number)
        coarse.append(total * extent / finer)
    return torch.stack(coarse, axis)


def tgrad_map(decomposition: Decomposition, sign: str = "positive", input_index: int = 0) -> Tensor:
    """Equation 8, shape (N, 1, *spatial): the map of one input of the network."""
    if sign == "all":
        positive = tgrad_map(decomposition, "positive", input_index)
        return positive - tgrad_map(decomposition, "negative", input_index)
    input_term = decomposition.inputs[input_index]
    spatial = input_term.values.shape[2:]
    total = torch.zeros_like(input_term.positive)
    for term in (input_term, *decomposition.biases):
        if not term.reaches[input_index]:
            continue
        saliency = term.positive if sign == "positive" else term.negative
        weights = relu(term.score if sign == "positive" else -term.score) / sum(term.reaches)
        maps = phi(saliency, spatial)
        for sample in range(len(maps)):
            total[sample] += maps[sample] * weights[sample]
    return total


def tgrad_attribution(
    decomposition: Decomposition, sign: str = "positive", input_index: int = 0
) -> Tensor:
    """Equation 8 in the shape of one input.

    The input term keeps its channels; every bias term is shared equally among them.
    """
    if sign == "all":
        positive = tgrad_attribution(decomposition, "positive", input_index)
        return positive - tgrad_attribution(decomposition, "negative", input_index)
    signed = 1 if sign == "positive" else -1
    input_term = decomposition.inputs[input_index]
    attribution = torch.zeros_like(input_term.values)
    channels = attribution.shape[1]
    spatial = attribution.shape[2:]
    for sample in range(len(attribution)):
        evidence = relu(signed * input_term.values[sample])
        if evidence.sum() > 0:
            weight = relu(signed * input_term.score[sample])
            attribution[sample] += evidence / evidence.sum() * weight
        for term in decomposition.biases:
            if not term.reaches[input_index]:
                continue
            saliency = term.positive if sign == "positive" else term.negative
            weight = relu(signed * term.score[sample]) / sum(term.reaches)
            spread = phi(saliency[sample : sample + 1], spatial)[0] * weight
            for channel in range(channels):
                attribution[sample, channel] += spread[0] / channels
    return attribution


def tgrad(
    network: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    target: int | tuple[int, ...] | Sequence | Tensor | None = None,
    sign: str = "positive",
) -> Tensor | tuple[Tensor, ...]:
    """The T-Grad attributions, structured and shaped like ``inputs``."""
    decomposition = decompose(network, inputs, target)
    attributions = tuple(
        tgrad_attribution(decomposition, sign, index) for index in range(len(decomposition.inputs))
    )
    return attributions[0] if isinstance(inputs, Tensor) else attributions


def _as_tuple(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
