"""Decomposes a network again without recording its operations, if its graph has not changed.

Recording an operation in Python takes longer than running a small one. If autograd's graph of a
forward pass is the same as that of a recorded one, its terms have the same places, and their biases
can be read from the graph. They keep their names, although the graph does not show which of two
equal modules has run if these have no weights, or if they compute in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook

from captum_tgrad._support.random_state import RandomState
from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.pending_terms import PendingTerm
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.precision import HALF
from captum_tgrad.decomposition.replay.added_constants import AddedConstants
from captum_tgrad.decomposition.replay.graph import Graph, graph_of, has_dense_weights
from captum_tgrad.decomposition.replay.node_biases import biases_of, operations_of
from captum_tgrad.decomposition.replay.node_constants import Node
from captum_tgrad.decomposition.replay.products import bias_at_factor, product_of
from captum_tgrad.decomposition.tracing.recorder import Recorder

Pass = tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device, Places]
"""A forward pass: the shape, strides, dtype, device and places of its input."""


class _Recorded(NamedTuple):
    """A recorded forward pass.

    Args:
        networks: The outermost modules that ran.
        names: The names of the children of each module, because terms are named after modules.
        runs_others: Whether other modules than those in the networks may run.
        adds_constants: Whether it may add constants that the graph of a replay does not show. That
            of a recorded pass does not even show parameters.
        description: The description of the graph.
        needs_dense_weights: Whether the places are only right if the weights of linear layers have
            no zeros.
        dtypes: The dtypes that operations computed in.
        terms: The terms with the numbers of their nodes, in forward order, without their biases.
        without_terms: The numbers of nodes that had no term because their bias was zero.
    """

    networks: list[ReferenceType[nn.Module]]
    names: list[list[str]]
    runs_others: bool
    adds_constants: bool
    description: list[object]
    needs_dense_weights: bool
    dtypes: set[torch.dtype]
    terms: list[tuple[int, PendingTerm]]
    without_terms: list[int]


class Replay:
    """Keeps a recorded forward pass of a network for each of the last shapes of its input.

    Args:
        is_used_again: Whether later calls use what it keeps.

    Attributes:
        folds_norms: Whether batch norms may run as parts of the convolutions before them; False
            once the network has read the result of such a convolution.
    """

    def __init__(self, is_used_again: bool = True) -> None:
        self._forward: Callable[..., Any] | None = None
        self._recorded: dict[Pass, _Recorded] = {}
        self.folds_norms = True
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
        modules = _modules_in_evaluation(networks)
        if not self._is_worth_trying or modules is None:
            return
        self._is_worth_trying = False  # unless all goes well
        graph = graph_of(output)
        found = None if graph is None else _terms(graph, recorder)
        if graph is None or found is None:
            return
        self._recorded[forward_pass] = _Recorded(
            [ref(network) for network in networks],
            _names_of_children(modules),
            recorder.modules.runs_unnamed or not isinstance(self._forward, nn.Module),
            any(map(_adds_constant, graph.nodes)),
            graph.description, recorder.needs_dense_weights, recorder.dtypes, *found,
        )  # fmt: skip
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
        networks = [network for each in recorded.networks if (network := each()) is not None]
        modules = _modules_in_evaluation(networks)
        if modules is None or len(networks) < len(recorded.networks):
            return None
        if _names_of_children(modules) != recorded.names:
            return None
        self._is_worth_trying = False  # unless all goes well
        constants = AddedConstants()
        with constants if recorded.adds_constants else nullcontext():
            output = _run(forward, modules, arguments, recorded.runs_others)
        terms, graph = None, graph_of(output)
        if graph is not None and graph.description == recorded.description:
            adding = list(filter(_adds_constant, graph.nodes)) if recorded.adds_constants else []
            adds_constants = not all(_is_checked_by_sum(node, recorded, graph) for node in adding)
            self._recorded[forward_pass] = recorded._replace(adds_constants=adds_constants)
            terms = _with_biases(recorded, graph, constants.biases_of(adding))
        if terms is None:
            self._recorded.clear()
            before.restore()
            return None
        recorder.replay(terms, recorded.dtypes)
        self._is_worth_trying = True
        return output

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


def _modules_in_evaluation(networks: Iterable[nn.Module]) -> list[nn.Module] | None:
    """All modules of the networks; None if one is in training mode.

    In training mode, a batch norm would update its statistics.
    """
    found = dict.fromkeys(networks)
    modules = list(found)
    for module in modules:  # four times as fast as network.modules()
        if module.training:
            return None
        for child in module._modules.values():
            if child is not None and child not in found:
                found[child] = None
                modules.append(child)
    return modules


def _names_of_children(modules: Iterable[nn.Module]) -> list[list[str]]:
    return [list(module._modules) for module in modules]


def _run(
    forward: Callable[..., Any],
    modules: Sequence[nn.Module],
    arguments: Sequence[Any],
    runs_others: bool,
) -> Any:
    """The output of ``forward``, which runs these modules, and maybe others.

    None if it uses hooks on saved tensors, or too much memory, or needs frozen parameters, or if
    another norm would update its statistics.
    """
    leaf, *further = arguments
    copied = leaf.clone()
    frozen = _frozen(modules)
    try:
        with (
            # With activation checkpointing, reading a node would run a block again.
            torch.autograd.graph.disable_saved_tensors_hooks(_NO_HOOKS),
            _unfrozen(frozen),
            _stopped_before_training() if runs_others else nullcontext(),
        ):
            return forward(copied, *further)
    except _TrainingModeError:
        return None
    except torch.OutOfMemoryError:
        return None  # autograd keeps more activations if the weights require gradients
    except RuntimeError as error:
        if frozen or _NO_HOOKS in str(error):
            return None  # as parameter.numpy(); an error of the network itself comes again
        raise


class _TrainingModeError(Exception):
    """A norm in training mode would run and update its statistics."""


@contextmanager
def _stopped_before_training() -> Iterator[None]:
    """A context that raises _TrainingModeError before such a norm runs in this thread.

    Its hook costs a few percent of a small network.
    """
    thread = get_ident()

    def check(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, _NormBase) and module.training and get_ident() == thread:
            raise _TrainingModeError

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


_NO_HOOKS = "saved tensors have no hooks in a replay"


def _frozen(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """The parameters that require no gradient, but could."""
    return [
        parameter
        for module in modules
        for parameter in module._parameters.values()
        if parameter is not None and not parameter.requires_grad and parameter.is_floating_point()
    ]


@contextmanager
def _unfrozen(frozen: Sequence[nn.Parameter]) -> Iterator[None]:
    """A context in which these parameters require a gradient, so that the graph shows them."""
    try:
        for parameter in frozen:
            parameter.requires_grad_()
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _with_biases(
    recorded: _Recorded, graph: Graph, added: Mapping[Node, Bias | None] | None
) -> list[tuple[Node, PendingTerm]] | None:
    """The recorded terms with their nodes and biases; None if there are others.

    Args:
        recorded: The recorded forward pass.
        graph: The graph of a later one, with the same description.
        added: The biases of the sums and paddings whose constants the graph does not show; None if
            one is unknown.
    """
    if added is None or (recorded.needs_dense_weights and not has_dense_weights(graph)):
        return None  # a matrix with zeros may only move elements
    nodes = [graph.nodes[number] for number, _ in recorded.terms]
    with torch.no_grad():
        biases = {**dict(zip(nodes, biases_of(nodes), strict=True)), **added}
        if not all(_has_zero_bias(graph.nodes[number]) for number in recorded.without_terms):
            return None  # for example, a clamp is saturated
        for node, (_, term) in zip(nodes, recorded.terms, strict=True):
            if term.factor is not None:
                biases[node] = bias_at_factor(node, term.factor, term.places)
    found = [bias for bias in map(biases.pop, nodes) if bias is not None]
    if len(found) < len(nodes) or any(biases.values()):
        return None  # for example, a number that was 0 has changed
    terms = zip(nodes, recorded.terms, found, strict=True)
    return [(node, term.with_bias(bias)) for node, (_, term), bias in terms]


def _terms(
    graph: Graph, recorder: Recorder
) -> tuple[list[tuple[int, PendingTerm]], list[int]] | None:
    """The terms with the numbers of their nodes, and those of nodes whose bias is zero.

    None if not every other bias of the graph is one term.
    """
    recorded = recorder.terms_by_node()
    if recorded is None:
        return None
    found, zero, missing, products = [], [], [], set()
    for number, node in enumerate(graph.nodes):
        term, operations = recorded.get(node._sequence_nr()), operations_of(node)
        is_real = not node._input_metadata[0].dtype.is_complex  # others have terms in pairs
        if term is not None and term.operation in operations and is_real:
            found.append((node._sequence_nr(), number, term.with_bias(None)))
            products.add(product_of(node))
        elif term is not None:
            return None
        elif operations and (product := product_of(node)) is not None:
            missing.append(product)
        elif operations:
            if not _has_zero_bias(node):
                return None
            zero.append(number)
    # A linear layer over sequences has its term at the view of its product, or at the product.
    if not products.issuperset(missing):
        return None
    terms = [(number, term) for _, number, term in sorted(found, key=lambda each: each[0])]
    return terms, zero


def _has_zero_bias(node: Node) -> bool:
    """Whether the bias of a node without a term is zero, as that of a sum with the number 0."""
    (bias,) = biases_of([node])
    return _adds_constant(node) if bias is None else not bool(bias.value().any())


def _is_checked_by_sum(node: Node, recorded: _Recorded, graph: Graph) -> bool:
    """Whether it is a padding with zeros in full precision: another value leaves a residual."""
    is_padding = type(node).__name__ == "ConstantPadNdBackward0"
    if not is_padding or not recorded.dtypes.isdisjoint(HALF):
        return False
    return any(graph.nodes[number] is node for number in recorded.without_terms)


def _adds_constant(node: Node) -> bool:
    """Whether a node adds a constant that the graph does not show: a buffer or a number."""
    may_add = type(node).__name__ in _MAY_ADD_CONSTANTS
    return may_add and bool(operations_of(node)) and biases_of([node]) == [None]


_MAY_ADD_CONSTANTS = ("AddBackward0", "ConstantPadNdBackward0", "RsubBackward1", "SubBackward0")
