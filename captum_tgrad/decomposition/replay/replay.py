"""Decomposes a network again without recording its operations, if its graph has not changed.

Recording an operation in Python takes longer than running a small one. If autograd's graph of a
forward pass is the same as that of a recorded one, its terms have the same places, and their biases
can be read from the graph. They keep their names, although the graph does not show which of two
equal modules has run if these have no weights, or if they compute in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from threading import active_count
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from captum_tgrad._support.random_state import RandomState
from captum_tgrad.decomposition.pending_terms import PendingTerm
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.replay.added_constants import AddedConstants
from captum_tgrad.decomposition.replay.graph import graph_of
from captum_tgrad.decomposition.replay.node_constants import Node
from captum_tgrad.decomposition.replay.recorded_terms import (
    RecordedTerms,
    adds_constant,
    is_checked_by_sum,
    recorded_terms,
    with_biases,
)
from captum_tgrad.decomposition.replay.unrecorded_run import (
    HookAddedError,
    ModuleState,
    classes_and_children,
    modules_in_evaluation,
    run_unrecorded,
)
from captum_tgrad.decomposition.tracing.recorder import Recorder

Pass = tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device, Places]
"""A forward pass: the shape, strides, dtype, device and places of its input."""


class _Recorded(NamedTuple):
    """A recorded forward pass.

    Args:
        networks: The outermost modules that ran.
        modules: The class of each module, because the graph does not show scripts, and the names of
            its children, because terms are named after modules.
        runs_others: Whether other modules than those in the networks may run.
        calls_norms: Whether norms run outside of torch's own modules.
        adds_constants: Whether it may add constants that the graph of a replay does not show. That
            of a recorded pass does not even show parameters.
        description: The description of the graph.
        terms: The terms.
    """

    networks: list[ReferenceType[nn.Module]]
    modules: list[object]
    runs_others: bool
    calls_norms: bool
    adds_constants: bool
    description: list[object]
    terms: RecordedTerms

    def present_modules(self) -> list[nn.Module] | None:
        """The modules of the networks; None if they are others, or in training mode."""
        networks = [network for each in self.networks if (network := each()) is not None]
        modules = modules_in_evaluation(networks)
        if modules is None or len(networks) < len(self.networks):
            return None
        return modules if classes_and_children(modules) == self.modules else None


class Replay:
    """Keeps a recorded forward pass of a network for each of the last shapes of its input.

    Args:
        is_used_again: Whether later calls use what it keeps.

    Attributes:
        folds_norms: Whether batch norms may run as parts of the convolutions before them; False
            once the network has read the result of such a convolution.
        keeps_results: Whether all results of operations stay alive during a forward pass; True
            once a hidden operation has read a result that was freed.
    """

    def __init__(self, is_used_again: bool = True) -> None:
        self._forward: Callable[..., Any] | None = None
        self._recorded: dict[Pass, _Recorded] = {}
        self.folds_norms = True
        self.keeps_results = False
        self._is_worth_trying = is_used_again

    def __reduce__(self) -> tuple[type[Replay], tuple[()]]:
        return Replay, ()  # a copy starts anew: it is for a copy of the network

    def pass_of(
        self, forward: Callable[..., Any], leaves: Sequence[Tensor], places: Sequence[Places]
    ) -> Pass | None:
        """A forward pass of a network; None if it cannot be replayed, or is as fast if recorded."""
        if not self._is_worth_trying or len(leaves) != 1:
            return None
        (leaf,) = leaves
        is_small = are_small(leaves) if leaf.is_cpu else leaf.numel() < _MOST_ON_GPU
        if not is_small:
            return None
        if forward is not self._forward:
            self._recorded.clear()
            self._forward = forward
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device, places[0]

    def keep(self, forward_pass: Pass, output: Any, recorder: Recorder) -> None:
        """Keeps a forward pass that was recorded, if its terms follow from its graph."""
        networks = list(dict.fromkeys(recorder.modules.outermost))
        modules = modules_in_evaluation(networks)
        if not self._is_worth_trying or modules is None:
            return
        self._is_worth_trying = False  # unless all goes well
        graph = graph_of(output)
        terms = None if graph is None else recorded_terms(graph, recorder)
        if graph is None or terms is None:
            return
        self._recorded[forward_pass] = _Recorded(
            [ref(network) for network in networks],
            classes_and_children(modules),
            recorder.modules.runs_unnamed or not isinstance(self._forward, nn.Module),
            recorder.calls_norms,
            any(map(adds_constant, graph.nodes)),
            graph.description,
            terms,
        )
        if len(self._recorded) > _MOST_SHAPES:
            del self._recorded[next(iter(self._recorded))]
        self._is_worth_trying = True

    def run(
        self,
        forward: Callable[..., Any],
        forward_pass: Pass | None,
        arguments: Sequence[Any],
        recorder: Recorder,
        before: RandomState,
    ) -> Any:
        """Runs the network, and adds the terms of the recorded forward pass to the recorder.

        Args:
            forward: The network.
            forward_pass: The forward pass; None if it cannot be replayed.
            arguments: The input, and further arguments of the network.
            recorder: Gets the terms.
            before: The random state before the call, which is restored if the network has to run
                again.

        Returns:
            The output; None if the operations have to be recorded.
        """
        recorded = None if forward_pass is None else self._recorded.get(forward_pass)
        if forward_pass is None or recorded is None:
            return None
        modules = recorded.present_modules()
        if modules is None:
            return None
        self._is_worth_trying = False  # unless all goes well
        constants, state = AddedConstants(), ModuleState(modules)
        try:
            with constants if recorded.adds_constants else nullcontext():
                output = run_unrecorded(
                    forward, modules, arguments, recorded.runs_others, recorded.calls_norms
                )
        except HookAddedError:
            output, self._is_worth_trying = None, active_count() > 1  # it may be of another thread
        except BaseException:
            state.restore_statistics()
            raise
        terms = self._terms(forward_pass, recorded, output, constants)
        if terms is None:
            self._recorded.clear()
            before.restore()
            state.restore_statistics()  # a module may have set itself to training mode
            state.restore_attributes()
            return None
        recorder.replay(terms, recorded.terms.dtypes)
        self._is_worth_trying = True
        return output

    def _terms(
        self, forward_pass: Pass, recorded: _Recorded, output: Any, constants: AddedConstants
    ) -> list[tuple[Node, PendingTerm]] | None:
        """The terms of a replay with their nodes; None if they are not those that were recorded."""
        try:
            graph = graph_of(output)
        except RuntimeError:  # the network has kept a tensor, whose graph an earlier call has freed
            return None
        if graph is None or graph.description != recorded.description:
            return None
        adding = list(filter(adds_constant, graph.nodes)) if recorded.adds_constants else []
        adds_constants = not all(is_checked_by_sum(node, recorded.terms, graph) for node in adding)
        self._recorded[forward_pass] = recorded._replace(adds_constants=adds_constants)
        return with_biases(recorded.terms, graph, constants.biases_of(adding))

    def give_up(self) -> None:
        """Records all later calls."""
        self._recorded.clear()
        self._is_worth_trying = False


def are_small(leaves: Sequence[Tensor]) -> bool:
    """Whether a CPU may run an operation on these inputs faster than Python can record it.

    The size of a sample decides for usual batches: its map in a batch is then rounded as alone.
    """
    samples = max(leaves[0].shape[:1].numel(), 1)
    number = sum(leaf.numel() for leaf in leaves)
    return number // samples < _FEW and number < _MOST


_FEW = 2**18  # elements of a sample; an image of 224 x 224 has 1.5e5, one of 299 x 299 has 2.7e5
_MOST = 2**20  # of a batch; if it is recorded, autograd keeps half as many activations
_MOST_SHAPES = 8
_MOST_ON_GPU = 2**24  # of a batch, 111 images; a GPU waits for Python with larger batches too
