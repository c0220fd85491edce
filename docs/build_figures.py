"""What the build of the documentation draws: a chart of the results, figures, thumbnails."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image, ImageOps

from captum_tgrad.evaluation import built_in_images, evaluate
from captum_tgrad.visualization import metrics_figure, seconds_figure
from captum_tgrad.visualization.method_colors import method_styles
from captum_tgrad.zoo import load_classifier

_INTERVAL = re.compile(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]")


def results_chart(page: Path) -> Figure:
    """Insertion minus deletion of every method, read from the first such table of a page."""
    rows = []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) > 3 and (found := _INTERVAL.fullmatch(cells[3])):
            rows.append((cells[0], *map(float, found.groups())))
        elif rows:
            break
    names, means, lows, highs = zip(*reversed(rows), strict=True)
    figure = Figure(figsize=(7.5, 3.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for place, (name, mean, low, high) in enumerate(zip(names, means, lows, highs, strict=True)):
        color = method_styles([name])[name]["color"]
        axes.plot([low, high], [place, place], color=color, linewidth=2.5, solid_capstyle="round")
        axes.plot(mean, place, "o", color=color, markersize=7)
    axes.axvline(0, color="#9aa4b2", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(
        "insertion minus deletion (higher is better), with 95% intervals over 20 images"
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def build(source: Path, out: Path) -> None:
    """Writes all figures, unless they are there.

    Args:
        source: The folder of the pages.
        out: The folder to write to.
    """
    out.mkdir(exist_ok=True)
    results_chart(source / "results.md").savefig(out / "results.png", dpi=120)
    if (out / "seconds_figure.png").exists():
        return
    classifier = load_classifier("efficientnet_lite0")
    found = evaluate(
        classifier,
        built_in_images(classifier),
        ["t_grad", "grad_cam", "input_x_gradient", "random"],
        n_steps=8,
        limit=4,
        max_examples_per_batch=8,
    )
    metrics_figure(found.summary).savefig(out / "metrics_figure.png", dpi=80)
    seconds_figure(found.summary).savefig(out / "seconds_figure.png", dpi=80)


def thumbnails(images: Path) -> None:
    """Cuts the thumbnail of each tutorial out of its first figure: a whole one is too wide to read.

    Args:
        images: The folder that sphinx-gallery writes figures to.
    """
    for path in (images / "thumb").glob("*_thumb.png"):
        first = images / path.name.replace("_thumb", "_001")
        figure = Image.open(first).convert("RGB")
        box = (0, 0, min(figure.width, int(figure.height * 1.6)), figure.height)
        ImageOps.pad(figure.crop(box), (640, 400), color="white").save(path)
