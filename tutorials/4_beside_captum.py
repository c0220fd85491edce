"""
T-Grad beside Captum's methods
==============================

The same two images, explained by T-Grad and by methods that come with Captum: what they cost,
what they show, what they leave out, and how well they do.
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
# All of them are Captum attributions and are called alike. Integrated Gradients starts from a black
# image, which after normalization is not 0; 16 steps are few, taken to be quick. Grad-CAM is that
# of the last convolution.

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
# The seconds are of one call on a shared machine and include whatever a first call has to set up:
# no more than a rough idea. The cost of T-Grad is measured with care in the results.

figure = methods_figure(pictures, maps, labels=labels)
figure

# %%
# T-Grad and FullGrad are made of the same terms: T-Grad weights each by its score, FullGrad
# rescales each to the same range, so that the coarse ones blur the map. Grad-CAM is the coarsest:
# it has 7 x 7 places. The other three have the full resolution and are grainy, as gradients with
# respect to pixels are.
#
# Completeness
# ------------
#
# T-Grad accounts for the logit, Integrated Gradients for the logit's difference to that of the
# baseline, once it has enough steps. Input x gradient would account for the logit if the network
# had no biases.

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
# Input x gradient leaves out nearly the whole logit. With 16 steps, Integrated Gradients is off by
# more than the logit of the cat: check its convergence delta and take more steps. T-Grad leaves
# rounding.
#
# Which is right about the network?
# ---------------------------------
#
# Completeness says that nothing is missing, not that the map ranks the pixels well. That is
# measured by insertion (higher is better) and deletion (lower is better); see
# `Is this map any good? <3_is_it_any_good.html>`__. With only 8 steps:

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
# Sorted by the mean difference of the two, Grad-CAM is first on these two images, T-Grad second.
# By deletion alone, input x gradient is the best for the cat: single pixels, spread over the face,
# break the network's answer early, and do not restore it. Two images decide nothing; a comparison
# over a data set is in the results.
