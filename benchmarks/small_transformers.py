"""Whether maps of small trained transformers show what decides: the word of a text, a digit.

Each text has ten words, one of which decides between two classes. A network learns the words of one
class, and predicts the other class without them. Only texts count whose prediction changes if
another word replaces the one that decides. The maps of digits are scored by insertion minus
deletion, with black pixels as the baseline. Prints two Markdown tables. Run:

    python -m benchmarks.small_transformers [--networks 10]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from functools import partial

import torch
from captum.attr import (
    InputXGradient,
    IntegratedGradients,
    LayerGradientXActivation,
    LayerIntegratedGradients,
)
from sklearn.datasets import load_digits
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from transformers import BertConfig, BertForSequenceClassification

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.metrics import insertion_deletion

Method = Callable[..., Tensor]

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
        _train(self, (texts(64, generator)[:2] for _ in range(120)))

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


def decisive_texts(model: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Of 200 :func:`texts`, those whose prediction is right, and wrong without the word."""
    generator = torch.Generator().manual_seed(1)
    tokens, labels, places = texts(200, generator)
    other = tokens.clone()
    neutral = torch.randint(_FIRST_NEUTRAL, _LAST, (200,), generator=generator)
    other[torch.arange(200), places] = neutral
    decides = (model(tokens).argmax(1) == labels) & (model(other).argmax(1) != labels)
    return tokens[decides], labels[decides], places[decides]


def share_found(attributions: Tensor, places: Tensor) -> float:
    """The share of texts whose word that decides has the highest value after ``[CLS]``."""
    return float((attributions.sum(2)[:, 1:].argmax(1) + 1 == places).double().mean())


def methods_for_texts(model: Bert) -> dict[str, Method]:
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


def digits() -> tuple[Tensor, Tensor]:
    """Images of handwritten digits, (N, 1, 32, 32) from -1 to 1, and their classes."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    return interpolate(images, scale_factor=4, mode="bilinear"), torch.tensor(found.target)


def vision_transformer(seed: int) -> nn.Module:
    """A vision transformer of four layers that has learned the first 1,300 digits."""
    torch.manual_seed(seed)
    images, labels = digits()
    model: nn.Module = VisionTransformer(
        img_size=32, patch_size=4, in_chans=1, num_classes=10, embed_dim=48, depth=4, num_heads=4
    )
    batches = (batch for _ in range(12) for batch in torch.randperm(1300).split(50))
    _train(model, ((images[batch], labels[batch]) for batch in batches))
    return model


def differences(model: nn.Module) -> dict[str, float]:
    """The mean insertion minus deletion of each method, on 100 digits that were not learned."""
    images = digits()[0][1300:1400]
    target = model(images).argmax(1)
    t_grad = TGradAttribution(model).attribute
    maps = {
        "T-Grad": t_grad(images, target=target),
        "T-Grad by levels": t_grad(images, target=target, aggregation="levels"),
        'T-Grad, `sign="all"`': t_grad(images, target=target, sign="all"),
        "IntegratedGradients": IntegratedGradients(model).attribute(
            images, baselines=-1.0, target=target, internal_batch_size=400
        ),
        "InputXGradient": InputXGradient(model).attribute(
            images.clone().requires_grad_(), target=target
        ),
        "random": torch.rand_like(images),
    }
    found = insertion_deletion(model, images, maps, baselines=-1.0, target=target, n_steps=32)
    return {name: float(each.difference.mean()) for name, each in found.items()}


def _train(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for inputs, labels in batches:
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()


def _print(title: str, found: dict[str, list[float]], form: str) -> None:
    print(f"{title}\n\n| method | mean | lowest | highest |\n|---|---|---|---|")
    for name, values in found.items():
        cells = (sum(values) / len(values), min(values), max(values))
        print(f"| {name} | {' | '.join(format(each, form) for each in cells)} |")


def main() -> None:
    """Parses the options and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=int, default=10)
    options = parser.parse_args()
    shares: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    counted = 0
    for seed in range(options.networks):
        model = Bert(seed)
        tokens, target, places = decisive_texts(model)
        counted += len(tokens)
        for name, method in methods_for_texts(model).items():
            shares.setdefault(name, []).append(share_found(method(tokens, target=target), places))
        for name, score in differences(vision_transformer(seed)).items():
            scores.setdefault(name, []).append(score)
    _print(f"Share of {counted} texts whose word is found", shares, ".0%")
    _print("\nInsertion minus deletion on 100 digits", scores, ".2f")


if __name__ == "__main__":
    main()
