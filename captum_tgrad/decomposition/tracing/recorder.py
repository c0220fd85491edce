"""Records each operation after it ran: the places of its results, and its bias."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.random_state import RandomState
from captum_tgrad.decomposition.bias import Bias, in_pairs
from captum_tgrad.decomposition.call import Call, ConstantsRead
from captum_tgrad.decomposition.copy_on_write import Readers
from captum_tgrad.decomposition.hidden.hidden_operations import HiddenOperations
from captum_tgrad.decomposition.maps.summing import Summing
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.one_rule import NoDerivativeError, bias_from_rule
from captum_tgrad.decomposition.operations.grids import CONVOLUTIONS
from captum_tgrad.decomposition.pending_terms import PendingTerm, PendingTerms
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.origin import Lifetime, origin_of, places_of
from captum_tgrad.decomposition.places.places import Places, depending_on, samples_of
from captum_tgrad.decomposition.places.propagation import output_places
from captum_tgrad.decomposition.places.rules.grids import channels_as_places
from captum_tgrad.decomposition.places.rules.mixing import places_in_pairs
from captum_tgrad.decomposition.tracing.origins import Origins
from captum_tgrad.decomposition.tracing.running_modules import RunningModules


class Recorder:
    """Records the bias and the places of every operation that depends on the inputs.

    Args:
        leaves: The inputs.
        places: The places of the elements of each input.
        summing: Sums terms into cells. None: only places are recorded.

    Attributes:
        modules: The modules that are running.
        origins: The places of all tensors that depend on the inputs.
        hidden: The operations that the trace cannot see.
        readers: The biases and other readers of memory that the model may overwrite.
        pending: The terms so far, in forward order; none if only places are recorded.
        channels_as_places: The channel axis that the network uses as positions, and the axis that
            it uses as channels, if any; None if no operation has done so.
        is_shown_by_graph: Whether the terms depend on nothing that autograd's graph does not show,
            such as the values of a mask, or the values of a bias before it was overwritten.
        is_overwritten: Whether the network has overwritten a source or a result of a hidden
            operation without autograd, as through ``.data``.
        calls_norms: Whether norms run outside of torch's own modules.
        is_random: Whether the output depends on random numbers, as with dropout in training mode.
        needs_dense_weights: Whether the places are only right if the weights of linear layers have
            no zeros.
        dtypes: The dtypes that operations computed in.
        is_replayed: Whether the forward pass was replayed.
    """

    def __init__(
        self, leaves: Sequence[Tensor], places: Sequence[Places], summing: Summing | None
    ) -> None:
        self.readers = Readers()
        self.channels_as_places: tuple[Axis, Axis | None] | None = None
        self.is_shown_by_graph = True
        self.is_overwritten = False
        self.calls_norms = False
        self.is_random = False
        self.needs_dense_weights = False
        self.dtypes = {leaf.dtype for leaf in leaves}
        self.is_replayed = False
        self.modules = RunningModules()
        self.pending = PendingTerms()
        self._summing = summing
        self._lifetime = Lifetime()
        self._everything = frozenset(range(len(leaves)))
        axes = (axis for each in places for axis in each.coordinates)
        self._with_positions = {axis.input for axis in axes if axis.is_spatial}
        has_several = summing is not None and len(leaves) > 1
        self._axes_of_inputs = [each.coordinates.keys() for each in places] if has_several else []
        self.hidden = HiddenOperations(
            self.readers,
            self._lifetime,
            self.modules,
            self.pending,
            samples_of(places[0]),
            self._everything if has_several else frozenset(),
        )
        self.origins = Origins(self._lifetime, self.hidden, self._axes_of_inputs)
        self.modules.after_module = self.hidden.search_output

    @property
    def precision(self) -> float:
        """The largest machine epsilon of these dtypes."""
        return max(torch.finfo(dtype).eps for dtype in self.dtypes)

    def record(
        self,
        call: Call,
        result: Any,
        random_state: RandomState | None = None,
        biases: Sequence[Bias | None] | None = None,
    ) -> None:
        """Records the bias of a call and the places of its results.

        The arguments of the call are those before it ran, and so is the random state, if its rule
        needs it. The biases are given if they are known.
        """
        call.returned = [result] if isinstance(result, Tensor) else tensors_in(result)
        outputs = [tensor for tensor in call.returned if tensor.requires_grad]
        if not outputs:
            return
        if any(output.is_nested for output in outputs):
            raise ValueError(
                "forward_func computes with nested tensors, which the decomposition cannot follow."
                " Pad the sequences instead, or explain the samples one at a time without them."
            )
        found = self._places(call, outputs)
        try:
            biases = biases or self._biases(call, outputs, random_state)
        except NoDerivativeError:
            self._treat_as_hidden(outputs, found)
            return
        for output, places, bias in zip(outputs, found, biases, strict=True):
            self._add_dtypes(call, output)
            self.origins.follow_result(output, places)
            if bias is None:
                continue
            if bias.places is not None:
                (places,) = self._with_dependencies(call, [bias.places])
            self.await_gradient(output, places, bias, call.name)

    def record_folded(self, call: Call, result: Tensor) -> None:
        """Records the bias of a call that ran as a part of another one, with the same result."""
        places, biases = places_of(result), call.closed_forms([result])
        if places is not None and biases and biases[0] is not None:
            self.await_gradient(result, places, biases[0], call.name)

    def _places(self, call: Call, outputs: list[Tensor]) -> list[Places]:
        """The places of a call's results, and what they say about the network."""
        found = output_places(call, outputs, partial(self._full_name, call.name))
        found = self._with_dependencies(call, found)
        if call.constants_read != ConstantsRead.NOTHING:
            self.needs_dense_weights = True
            reads_no_values = call.constants_read == ConstantsRead.NO_ZEROS
            self.is_shown_by_graph &= reads_no_values and call.name == "linear"
        mixes = call.name in _MIXES_CHANNELS or call.record.is_recurrent
        if mixes and not call.selects_elements and self.channels_as_places is None:
            self.channels_as_places = channels_as_places(call, self._with_positions)
        return found

    def _with_dependencies(self, call: Call, found: list[Places]) -> list[Places]:
        """Adds to places on which of several inputs they depend, those of the call's arguments."""
        if not self._axes_of_inputs:
            return found
        read = call.dependent[:1] if call.name in _SHAPED_LIKE_ANOTHER else call.dependent
        inputs = frozenset[int]()
        for origin in map(origin_of, read):
            inputs |= self._everything if origin is None else origin.places.inputs
        is_part = len(read) == 1
        return [depending_on(each, inputs, self._axes_of_inputs, is_part=is_part) for each in found]

    def _add_dtypes(self, call: Call, output: Tensor) -> None:
        self.dtypes.add(output.dtype)
        if call.record.is_recurrent and torch.is_autocast_enabled(output.device.type):
            # Autocast computes the gates of recurrent layers in its own type.
            self.dtypes.add(torch.get_autocast_dtype(output.device.type))
        if call.name == "hardswish" and output.is_cuda:
            self.dtypes.add(torch.float32)  # it multiplies by 1 / 6 in float32, also in float64

    def _treat_as_hidden(self, outputs: list[Tensor], found: list[Places]) -> None:
        """Treats an operation without a directional derivative as a hidden operation."""
        for output, places in zip(outputs, found, strict=True):
            try:
                self.hidden.add_hidden_result(output, places)
            except (RuntimeError, NotImplementedError):
                # It has no gradient at all. If one is needed later, torch raises an error.
                self.origins.follow(output, places)

    def await_gradient(self, output: Tensor, places: Places, bias: Bias, name: str) -> None:
        """Adds a term that is computed from ``bias`` when the gradient arrives at ``output``."""
        if self._summing is None:
            return
        if output.is_complex():
            bias, places = in_pairs(bias, output), places_in_pairs(places)
        self.readers.add(bias)
        path, in_leaf = self.modules.path, self.modules.inside_leaf
        pending = PendingTerm(path, name, in_leaf, places, bias, factor=bias.factor)
        wait = partial(self.pending.await_gradient, output, bias, pending)
        self.origins.run_or_defer(output, wait)

    def _biases(
        self, call: Call, outputs: list[Tensor], random_state: RandomState | None
    ) -> Sequence[Bias | None]:
        if self._summing is None:
            return [None] * len(outputs)
        biases = call.closed_forms(outputs)
        if biases is None:
            computed = [*call.dependent, *outputs]
        else:
            computed = [y for y, bias in zip(outputs, biases, strict=True) if bias is not None]
        if any(tensor.layout != torch.strided for tensor in computed):
            raise NoDerivativeError  # sparse tensors lack the operations
        if biases is not None:
            return biases
        with torch.no_grad():
            return bias_from_rule(call, outputs, random_state)

    def _full_name(self, operation: str) -> str:
        path = self.modules.path
        return f"{path}:{operation}" if path else operation

    def terms_by_node(self) -> dict[int, PendingTerm] | None:
        """The terms by the sequence number of their node; None if the graph does not show them."""
        if (
            self.hidden.any_found
            or self.channels_as_places is not None
            or not self.is_shown_by_graph
        ):
            return None
        return self.pending.by_node()

    def replay(
        self, terms: Iterable[tuple[Any, PendingTerm]], dtypes: Iterable[torch.dtype]
    ) -> None:
        """Adds the terms of a recorded forward pass, each with its node, and its dtypes."""
        self.is_replayed = True
        self.dtypes.update(dtypes)
        for node, pending in terms:
            self.pending.await_gradient_at(node, pending)
        self.pending.activate(self._summing)

    def finish(self, output: Any) -> None:
        """Ends the forward pass: looks for hidden operations in its output, and arms the hooks."""
        self.origins.run_deferred()
        self.hidden.search_output("", output)
        self.readers.clear()
        self.hidden.register_hooks()
        self.pending.drop(self.hidden.replaced)
        self.pending.activate(self._summing)

    def terms(self) -> list[PendingTerm]:
        """The terms that contribute to the output, in forward order."""
        assert self._summing is not None
        hidden = []
        for found in self.hidden.terms:
            result = found.results[-1]
            sums = found.sums(self._summing)
            term = PendingTerm(result.path, "hidden", False, found.places, None, sums)
            hidden.append((result.order, term))
        return self.pending.arrived(hidden)

    def release(self) -> None:
        """Removes the hooks on the activations and frees the pending terms."""
        self.pending.release()
        self.hidden.release()
        self.readers.clear()
        self.modules.after_module = None  # avoids a reference cycle
        self._lifetime.is_over = True


_SHAPED_LIKE_ANOTHER = {"view_as", "reshape_as", "expand_as", "type_as", "to"}
"""Operations that read only the shape or the type of their second tensor."""

_MIXES_CHANNELS = {"linear", *CONVOLUTIONS}
