"""
T-Grad next to Captum's methods
===============================

This tutorial explains two images with T-Grad and with methods of Captum. It compares their cost,
their maps, their completeness and their scores.
"""

# %%
# Two images
# ------------

import time

import skimage.data
import torch
from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam, Saliency
from PIL import Image

from captum_tgrad import FullGradAttribution, TGradAttribution
from captum_tgrad.metrics import insertion_deletion
from captum_tgrad.visualization import methods_figure
from captum_tgrad.zoo import load_classifier

classifier = load_classifier("efficientnet_lite0")
model = classifier.model
photographs = [Image.fromarray(skimage.data.coffee()), Image.fromarray(skimage.data.chelsea())]
pictures = [classifier.crop(photograph) for photograph in photographs]
images = torch.stack([classifier.preprocess(photograph) for photograph in photographs])
with torch.no_grad():
    probabilities = model(images).softmax(dim=1)
targets = probabilities.argmax(dim=1)
labels = [classifier.class_names[target] for target in targets.tolist()]
for label, probability in zip(labels, probabilities.amax(dim=1), strict=True):
    print(f"{label}: {probability:.1%}")

# %%
# Six methods
# -----------
#
# All of them are Captum attributions and have the same interface. Integrated Gradients starts from
# a black image, which is not 0 after normalization. It uses only 16 steps to save time. Grad-CAM
# uses the last convolution.

black = classifier.preprocess(Image.new("RGB", (224, 224))).unsqueeze(0)
methods = {
    "T-Grad": (TGradAttribution(model), {}),
    "FullGrad": (FullGradAttribution(model), {}),
    "Saliency": (Saliency(model), {}),
    "Input x Gradient": (InputXGradient(model), {}),
    "Integrated Gradients": (IntegratedGradients(model), {"baselines": black, "n_steps": 16}),
    "Grad-CAM": (LayerGradCam(model, model._conv_head), {"relu_attributions": True}),
}
maps = {}
for name, (method, options) in methods.items():
    start = time.perf_counter()
    attributions = method.attribute(images.clone().requires_grad_(), target=targets, **options)
    seconds = time.perf_counter() - start
    maps[name] = attributions.detach().float()
    size = " x ".join(str(side) for side in attributions.shape)
    print(f"{name:21} {size:17} {seconds:5.2f} s")

# %%
# Each time is that of a single call on a shared machine, including the setup of the first call, so
# it is only a rough estimate. `Cost <../cost.html>`__ has careful measurements.

figure = methods_figure(pictures, maps, labels=labels)
figure

# %%
# T-Grad and FullGrad use the same terms. T-Grad weights each term by its score. FullGrad rescales
# all terms to the same range, so the coarse terms blur the map. Grad-CAM is the coarsest, with a
# resolution of 7 x 7. The other three have the full resolution and are noisy, as gradients of
# pixels usually are.
#
# Completeness
# ------------
#
# The terms of T-Grad sum to the logit. With enough steps, Integrated Gradients sums to the
# difference between the logit and that of the baseline. Input x Gradient would sum to the logit if
# the network had no biases.

with torch.no_grad():
    logits = model(images).gather(1, targets[:, None])[:, 0]
    black_logits = model(black)[0, targets]
_, t_grad_delta = methods["T-Grad"][0].attribute(
    images, target=targets, return_convergence_delta=True
)
integrated_sum = maps["Integrated Gradients"].sum(dim=(1, 2, 3))
for index, label in enumerate(labels):
    print(f"{label}: logit {logits[index]:.3f}, of black {black_logits[index]:.3f}")
    leftover = logits[index] - maps["Input x Gradient"][index].sum()
    print(f"  Input x Gradient misses     {leftover:+.3f}")
    missing = logits[index] - black_logits[index] - integrated_sum[index]
    print(f"  Integrated Gradients misses {missing:+.3f} of the difference to black")
    print(f"  T-Grad misses               {t_grad_delta[index]:+.1e}")

# %%
# Input x Gradient misses about the whole logit. With 16 steps, Integrated Gradients is off by more
# than the logit of the cat. Check its convergence delta, and use more steps. The residual of T-Grad
# is rounding error.
#
# Which map is faithful?
# ----------------------
#
# A complete map does not always rank the pixels well. Insertion (higher is better) and deletion
# (lower is better) measure the ranking; see `Is this map any good? <3_is_it_any_good.html>`__. With
# only 8 steps:

found = insertion_deletion(
    model,
    images.to(memory_format=torch.channels_last),
    maps,
    target=targets,
    n_steps=8,
    max_examples_per_batch=8,
)
print(f"{'':21} " + "  ".join(f"{label:>22}" for label in labels))
print(f"{'':21} " + "  ".join(["insertion     deletion"] * 2))
for name, result in sorted(found.items(), key=lambda pair: -pair[1].difference.mean()):
    columns = [
        f"{result.insertion[index]:9.3f} {result.deletion[index]:12.3f}"
        for index in range(len(labels))
    ]
    print(f"{name:21} " + "  ".join(columns))

# %%
# By the mean of insertion minus deletion, Grad-CAM is first on these two images, and T-Grad is
# second. By deletion alone, Input x Gradient is the best for the cat: deleting single pixels all
# over the face changes the prediction early, but inserting them does not restore it. Two images are
# not conclusive; `Results <../results.html>`__ has a comparison on a data set.
