"""
Is this map any good?
=====================

A map can look right and still be wrong: it should show what the *network* uses, not what a person
would use. This tutorial measures how faithful a map is, and shows which choices affect the numbers.
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
from captum_tgrad.zoo.preprocessing import normalization

classifier = load_classifier("efficientnet_lite0")
model = classifier.model
picture = classifier.crop(sample_image())
image = classifier.preprocess(sample_image()).unsqueeze(0)
target = classifier.class_names.index("espresso")

# %%
# We compare T-Grad, Grad-CAM of the last convolution, and random numbers as a control. A method
# that is not better than random numbers does not explain the network.

grad_cam = LayerGradCam(model, model._conv_head)
maps = {
    "T-Grad": TGradAttribution(model).attribute(image, target=target),
    "Grad-CAM": grad_cam.attribute(image, target=target, relu_attributions=True).detach(),
    "random": torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0)),
}
figure = methods_figure(picture, maps)
figure

# %%
# The metrics accept maps of any method and any size. Coarse maps are upsampled to the image.
#
# Insertion and deletion
# ----------------------
#
# Deletion replaces pixels with a baseline, the most important pixels first, and records the
# probability of the class. With a good map, the probability falls early, and the area under its
# curve is small. Insertion starts from the baseline and restores the most important pixels first,
# so the area should be large. The difference of the two areas summarizes both.
#
# The paper uses 224 steps. To save time, we use 28. Batches of 8 images in the ``channels_last``
# format are fast on a CPU and change the results only by rounding.

fast_image = image.to(memory_format=torch.channels_last)
arguments = {"target": target, "max_examples_per_batch": 8}
results = insertion_deletion(model, fast_image, maps, n_steps=28, return_curves=True, **arguments)
for name, result in results.items():
    print(
        f"{name:9} insertion {result.insertion[0]:.3f}, deletion {result.deletion[0]:.3f},"
        f" difference {result.difference[0]:+.3f}"
    )

# %%
# The figure shows the curves and some of the images that the network scored:

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
# Both methods are far better than random. On this image, Grad-CAM is slightly better than T-Grad on
# both curves. One image is not conclusive. `Results <../results.html>`__ has a comparison on a data
# set, and `Evaluate methods on a folder of images <../how_to/evaluate_on_imagenet.html>`__ shows
# how to run your own.
#
# The baseline matters too
# ------------------------
#
# The baseline replaces the deleted pixels. The default is a strong blur. RISE, which introduced
# these metrics, uses a weak blur for insertion and zeros (here gray) for deletion. With 14 steps:

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
# With ``blur(11, 5)``, the espresso stays recognizable: the blurred image alone has a third of the
# probability, so the curves carry little information. The order of the two methods depends on the
# baseline. Compare numbers only if the baseline and the number of steps are the same. Report
# ``result.protocol``, which contains both.

print(results["T-Grad"].protocol)

# %%
# Ties
# ----
#
# A 7 x 7 map that is upsampled without interpolation has blocks of 32 x 32 pixels with the same
# importance. The map does not define the order of these pixels, but the order changes the area.
# This code breaks the ties from the top and from the bottom of the image. ``insertion`` alone takes
# half the time:

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
# By default, ties are broken in raster order (``ties="stable"``), which is the order from the top.
# With ``ties="group"``, all pixels of the same importance are replaced at once:

grouped = insertion(model, fast_image, coarse, ties="group", n_steps=28, **arguments)
print(f"grouped         insertion {grouped.insertion[0]:.4f}")

# %%
# Here, the order changes the area by half a percentage point, and the methods differ by one.
# ``tied_share`` is the share of pixels that have the same importance as another pixel. If it is
# large, report it, or group the ties.
#
# Average drop and increase in confidence
# ---------------------------------------
#
# These metrics scale the map to [0, 1] and multiply the image by it, so pixels with low values
# become gray. The drop is the share of the probability that is lost. The increase is 100% for an
# image whose probability rises. Each metric needs one forward pass per map.

drops = average_drop(model, fast_image, maps, **arguments)
rises = increase_in_confidence(model, fast_image, maps, **arguments)
for name in maps:
    print(
        f"{name:9} score {drops[name].clean_score[0]:.3f}, of the masked image"
        f" {drops[name].masked_score[0]:.3f}: average drop {drops[name].average_drop:5.1f}%,"
        f" increase in confidence {rises[name].increase_in_confidence:3.0f}%"
    )

# %%
# A map that is high everywhere masks nothing, so a map without information can have the best score.
# Always report insertion and deletion, too.
