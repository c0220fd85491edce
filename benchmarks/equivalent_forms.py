"""One network in three equivalent forms: whether they have one map.

Prints a Markdown table for the built-in model: the correlation (Pearson, over pixels) of the T-Grad
map of each form with that of the plain network. Run:

    python -m benchmarks.equivalent_forms [--figure FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import methods_figure
from captum_tgrad.zoo import load_classifier, sample_image

# What the form does to its input; an input for it; from the plain network's map to its own.
FORMS = {
    "x[:, [2, 1, 0]]": (
        lambda x: x[:, [2, 1, 0]],
        lambda image: image.flip(1),
        lambda found: found,
    ),
    "x[..., 16:208, 16:208]": (
        lambda x: x[..., 16:208, 16:208],
        lambda image: image,
        lambda found: F.pad(found, (16, 16, 16, 16)),
    ),
    "x.flip(3)": (lambda x: x.flip(3), lambda image: image, lambda found: found.flip(3)),
}


def main() -> None:
    """Parses the options, prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, help="file to draw the maps to")
    options = parser.parse_args()
    classifier = load_classifier("efficientnet_lite0")
    model = classifier.model
    image = classifier.preprocess(sample_image()).unsqueeze(0)
    target = int(model(image).argmax())

    images, plain, own = [], [], []
    print("| form | correlation |\n|---|---|")
    for name, (form, given, back) in FORMS.items():
        images.append(given(image))
        method = TGradAttribution(lambda x, form=form: model(form(x)))
        own.append(method.attribute(images[-1], target=target).sum(1))
        seen = form(images[-1]).clone()
        plain.append(back(TGradAttribution(model).attribute(seen, target=target)).sum(1))
        pair = torch.stack([plain[-1].flatten(), own[-1].flatten()])
        print(f"| `{name}` | {float(torch.corrcoef(pair)[0, 1]):.2f} |")
    maps = {"plain network": torch.stack(plain), "this form": torch.stack(own)}
    if options.figure:
        title = f"{classifier.name}, {classifier.class_names[target]}"
        figure = methods_figure(
            torch.cat(images), maps, overlay=False, labels=list(FORMS), title=title
        )
        figure.savefig(options.figure, dpi=72)


if __name__ == "__main__":
    main()
