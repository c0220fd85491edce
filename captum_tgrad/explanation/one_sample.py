"""One sample of a decomposition of a batch."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from captum_tgrad.decomposition.terms import Decomposition, Term, TermMap


def of_sample(decomposition: Decomposition, sample: int) -> Decomposition:
    """The decomposition of one sample alone, on the CPU."""

    def part(values: Tensor) -> Tensor:
        # A copy: a part of a batch would keep all of it in memory.
        return values[sample : sample + 1].detach().cpu().clone()

    def term(whole: Term) -> Term:
        maps = {
            number: TermMap(part(own.positive), part(own.negative), part(own.placed), own.grid)
            for number, own in whole.maps.items()
        }
        return replace(
            whole,
            positive=part(whole.positive),
            negative=part(whole.negative),
            score=part(whole.score),
            magnitudes=None,
            maps=maps,
        )

    inputs = tuple(term(each) for each in decomposition.inputs)
    return Decomposition(
        part(decomposition.output),
        inputs[0] if len(inputs) == 1 else inputs,
        [term(each) for each in decomposition.biases],
        part(decomposition.delta),
    )
