"""How often a method finds the word that decides, in small BERTs that learn to classify texts.

Each text has ten words, one of which decides between two classes. A network learns the words of one
class, and predicts the other class without them. Only texts count whose prediction changes if
another word replaces the one that decides. Prints a Markdown table. Run:

    python -m benchmarks.text_words [--networks 10]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from captum.attr import LayerGradientXActivation, LayerIntegratedGradients
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification

from captum_tgrad import LayerTGradAttribution

_WORDS = 10
_FIRST_NEUTRAL, _LAST = 20, 100  # words 10 to 14 decide for class 0, words 15 to 19 for class 1


class Bert(nn.Module):
    """A BERT of two layers that has learned to classify the texts.

    Args:
        seed: The seed of its weights.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(0)
        config = BertConfig(
            vocab_size=_LAST, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_labels=2,
        )  # fmt: skip
        self.bert = BertForSequenceClassification(config)
        self.embeddings = self.bert.get_input_embeddings()
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        for _ in range(120):
            tokens, labels, _ = texts(64, generator)
            optimizer.zero_grad()
            cross_entropy(self(tokens), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (N, 2)."""
        logits: Tensor = self.bert(input_ids=tokens).logits
        return logits


def texts(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """``[CLS]``, ten words, ``[SEP]``; their classes, and the position of the word that decides."""
    tokens = torch.randint(_FIRST_NEUTRAL, _LAST, (count, _WORDS + 2), generator=generator)
    tokens[:, 0], tokens[:, -1] = 1, 2
    labels = torch.randint(2, (count,), generator=generator)
    places = torch.randint(1, _WORDS + 1, (count,), generator=generator)
    words = torch.randint(10, 15, (count,), generator=generator) + 5 * labels
    tokens[torch.arange(count), places] = words
    return tokens, labels, places


def decisive_texts(model: nn.Module, count: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`texts`, those whose prediction is right, and wrong without the word."""
    generator = torch.Generator().manual_seed(1)
    tokens, labels, places = texts(count, generator)
    other = tokens.clone()
    neutral = torch.randint(_FIRST_NEUTRAL, _LAST, (count,), generator=generator)
    other[torch.arange(count), places] = neutral
    decides = (model(tokens).argmax(1) == labels) & (model(other).argmax(1) != labels)
    return tokens[decides], labels[decides], places[decides]


def share_found(attributions: Tensor, places: Tensor) -> float:
    """The share of texts whose word that decides has the highest value after ``[CLS]``."""
    return float((attributions.sum(2)[:, 1:].argmax(1) + 1 == places).double().mean())


def methods(model: Bert) -> dict[str, Callable[..., Tensor]]:
    """The attributions of the embeddings, from tokens and a target."""
    t_grad = partial(LayerTGradAttribution(model, model.embeddings).attribute, channel_dim=-1)
    integrated = LayerIntegratedGradients(model, model.embeddings)
    return {
        "T-Grad": t_grad,
        "T-Grad by levels": partial(t_grad, aggregation="levels"),
        'T-Grad, `sign="all"`': partial(t_grad, sign="all"),
        "LayerIntegratedGradients": lambda tokens, target: integrated.attribute(
            tokens, torch.zeros_like(tokens), target, internal_batch_size=400
        ),
        "LayerGradientXActivation": LayerGradientXActivation(model, model.embeddings).attribute,
    }


def main() -> None:
    """Parses the options and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=int, default=10)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    counted = 0
    for seed in range(options.networks):
        model = Bert(seed)
        tokens, labels, places = decisive_texts(model)
        counted += len(tokens)
        for name, method in methods(model).items():
            found.setdefault(name, []).append(share_found(method(tokens, target=labels), places))
    print(f"{options.networks} networks, {counted} texts\n\n| method | mean | lowest | highest |")
    print("|---|---|---|---|")
    for name, shares in found.items():
        cells = (sum(shares) / len(shares), min(shares), max(shares))
        print(f"| {name} | {' | '.join(f'{each:.0%}' for each in cells)} |")


if __name__ == "__main__":
    main()
