"""Why one layer can drown the others: the terms of SqueezeNet for one image, level by level.

Draws the map of eq. 8 and the map by levels above those of the levels, and prints for each level
its part of the positive scores and how much of its evidence does not cancel. Run:

    python -m benchmarks.levels_figure [--out docs/images/levels.webp]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.levels_choices import level_maps, purity
from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.maps.combine import t_grad_map
from captum_tgrad.decomposition.maps.levels import _octave
from captum_tgrad.visualization.map_values import limit_of
from captum_tgrad.visualization.panels import draw_map
from captum_tgrad.zoo import load_classifier, sample_image


def main() -> None:
    """Draws the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("levels.webp"))
    options = parser.parse_args()
    classifier = load_classifier("squeezenet1_1")
    image = classifier.preprocess(sample_image())[None]
    terms = TGradAttribution(classifier.model).decompose(image, 967).terms  # espresso
    total = float(sum(term.score.relu() for term in terms))

    panels = []
    for octave, found in level_maps(terms, purity).items():
        level = [
            term for term in terms if term.maps[0].grid and _octave(term.maps[0].grid) == octave
        ]
        score = float(sum(term.score.relu() for term in level))
        evidence = float(sum((term.positive + term.negative).sum() for term in level))
        share, left = score / total, score / evidence
        title = f"{level[0].resolution}\n{share:.1%} of the scores\n{left:.0%} does not cancel"
        panels.append((title, found[0, 0]))
        print(f"| {level[0].resolution} | {len(level)} | {share:.1%} | {left:.1%} |")

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    first = above.subplots(1, 3)
    first[0].imshow(classifier.crop(sample_image()))
    first[0].set_title("image", fontsize=9)
    wholes = [
        (f'aggregation="{name}"', t_grad_map(terms, aggregation=name)[0, 0])
        for name in ("paper", "levels")
    ]
    axes_of_maps = [*first[1:], *below.subplots(1, len(panels))]
    for axes, (title, found) in zip(axes_of_maps, [*wholes, *reversed(panels)], strict=True):
        values = found.numpy()
        draw_map(axes, values / limit_of([values]), signed=False)
        axes.set_title(title, fontsize=9)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.savefig(options.out, dpi=90)


if __name__ == "__main__":
    main()
