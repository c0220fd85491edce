"""
Is this map any good?
=====================

A map can look right and be wrong: it should show what the *network* looks at, not what we would
look at. This tutorial measures that, and shows on which choices the numbers depend.
"""

# %%
# Three maps to judge
# -------------------

import torch
from captum.attr import LayerGradCam

from captum_tgrad import TGradAttribution
from captum_tgrad.metrics import (
    average_drop,
    blur,
    increase_in_confidence,
    insertion,
    insertion_deletion,
    zeros,
)
from captum_tgrad.visualization import curves_figure, methods_figure
from captum_tgrad.zoo import load_classifier, sample_image
from captum_tgrad.zoo.normalization import normalization

classifier = load_classifier("efficientnet_lite0")
model = classifier.model
picture = classifier.crop(sample_image())
image = classifier.preprocess(sample_image()).unsqueeze(0)
target = classifier.class_names.index("espresso")

# %%
# T-Grad, Grad-CAM of the last convolution, and random numbers as a control: a method that is not
# better than those says nothing about the network.

grad_cam = LayerGradCam(model, model._conv_head)
maps = {
    "T-Grad": TGradAttribution(model).attribute(image, target=target),
    "Grad-CAM": grad_cam.attribute(image, target=target, relu_attributions=True).detach(),
    "random": torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0)),
}
figure = methods_figure(picture, maps)
figure

# %%
# The metrics take maps of any method and any size; coarse ones are enlarged to the image.
#
# Insertion and deletion
# ----------------------
#
# Deletion replaces the pixels by a baseline, the most important ones first, and watches the
# probability of the class: after a good map it falls early, so that the area under its curve is
# small. Insertion starts from the baseline and puts the most important pixels back first; there
# the area should be large. The difference of the two areas sums it up.
#
# The paper takes 224 steps. To be quick, we take 28, and give the model 8 images at a time in the
# ``channels_last`` format, which is fast on a CPU and changes no result but by rounding.

fast_image = image.to(memory_format=torch.channels_last)
arguments = {"target": target, "max_examples_per_batch": 8}
results = insertion_deletion(model, fast_image, maps, n_steps=28, return_curves=True, **arguments)
for name, result in results.items():
    print(
        f"{name:9} insertion {result.insertion[0]:.3f}, deletion {result.deletion[0]:.3f},"
        f" difference {result.difference[0]:+.3f}"
    )

# %%
# The curves, and what the network saw on the way:

mean, std = normalization(classifier)
figure = curves_figure(
    results,
    inputs=image,
    attributions={name: maps[name] for name in ("T-Grad", "Grad-CAM")},
    mean=mean,
    std=std,
)
figure

# %%
# Both methods are far from random. On this image Grad-CAM is a little better than T-Grad on both
# curves. One image decides nothing: the comparison on a data set is in the results, and
# `Evaluate on ImageNet <../how_to/evaluate_on_imagenet.html>`__ says how to make your own.
#
# The baseline decides with
# -------------------------
#
# What is a pixel replaced by when it is taken away? The default here is a strong blur. RISE, where
# these metrics come from, takes a weak one for insertion and zeros for deletion, here gray. With 14
# steps:

print("baseline      its score  method    insertion  deletion  difference")
baselines = {"blur(51, 10)": blur(51, 10), "blur(11, 5)": blur(11, 5), "zeros": zeros}
two = {name: maps[name] for name in ("T-Grad", "Grad-CAM")}
for name, baseline in baselines.items():
    found = insertion_deletion(model, fast_image, two, baseline, n_steps=14, **arguments)
    for key, result in found.items():
        print(
            f"{name:12} {result.insertion_baseline_score[0]:10.3f}  {key:9}"
            f" {result.insertion[0]:9.3f} {result.deletion[0]:9.3f} {result.difference[0]:+11.3f}"
        )

# %%
# ``blur(11, 5)`` leaves the espresso recognizable: the blurred image has a third of the
# probability with no pixel put back, so neither curve can tell much. The order of the two methods
# is not the same with every baseline. Compare numbers only where the baseline and the number of
# steps are the same; ``result.protocol`` has them, to be written beside a table.

print(results["T-Grad"].protocol)

# %%
# Ties
# ----
#
# A map of 7 x 7 places that is enlarged without interpolation has 32 x 32 pixels of the same
# importance. Which of them goes first is not the method's choice, but it changes the area. Two
# orders inside the ties, from the top and from the bottom of the image, and ``insertion`` alone,
# which is half the work:

coarse = torch.nn.functional.interpolate(maps["Grad-CAM"].double(), (224, 224), mode="nearest")
raster = torch.arange(224.0 * 224).reshape(1, 1, 224, 224).double()
tiny = 1e-9 * coarse.max() * raster / raster.max()
orders = {
    "from the top": coarse - tiny,
    "from the bottom": coarse + tiny,
    "in raster order": coarse,
}
found = insertion(model, fast_image, orders, n_steps=28, **arguments)
for name, result in found.items():
    print(f"{name:15} insertion {result.insertion[0]:.4f}, tied share {result.tied_share[0]:.0%}")

# %%
# By default, ties go in raster order (``ties="stable"``), which is the first of the two. With
# ``ties="group"`` all pixels of the same importance go at once, and no order of the pixels matters:

grouped = insertion(model, fast_image, coarse, ties="group", n_steps=28, **arguments)
print(f"grouped         insertion {grouped.insertion[0]:.4f}")

# %%
# Here the order is worth half a percentage point, between methods that differ by one.
# ``tied_share`` says how many pixels share their importance with another. Where it is large, report
# it, or group the ties.
#
# Average drop and increase in confidence
# ---------------------------------------
#
# These keep the whole map: the image is multiplied with the map, scaled to [0, 1], and what is
# dark in the map goes to gray. The drop is how much of the probability is lost; the increase is
# 100 % for an image whose probability rises. Each takes one call of the model for each map.

drops = average_drop(model, fast_image, maps, **arguments)
rises = increase_in_confidence(model, fast_image, maps, **arguments)
for name in maps:
    print(
        f"{name:9} score {drops[name].clean_score[0]:.3f}, of the masked image"
        f" {drops[name].masked_score[0]:.3f}: average drop {drops[name].average_drop:5.1f} %,"
        f" increase in confidence {rises[name].increase_in_confidence:3.0f} %"
    )

# %%
# A map that is bright everywhere loses nothing, so this number alone can be won by a map that
# points at nothing. Look at it beside insertion and deletion, never instead of them.
