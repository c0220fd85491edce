"""
Sanity checks
=============

A map that shows edges looks convincing, but may be unrelated to what the network has learned. The
test of Adebayo et al. randomizes the network layer by layer. If the map does not change, it explains
the image and not the network.
"""

# %%
# Three methods
# -------------

import copy

import torch
from captum.attr import GuidedBackprop, LayerGradCam, Saliency

from captum_tgrad import TGradAttribution
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.visualization import cascade_figure, similarity_figure
from captum_tgrad.zoo import load_classifier, sample_image

classifier = load_classifier("efficientnet_lite0")
model = classifier.model
picture = classifier.crop(sample_image())
image = classifier.preprocess(sample_image()).unsqueeze(0)
target = classifier.class_names.index("espresso")

# %%
# Guided backpropagation is known to fail this test, so it shows whether the test detects failures.
# Captum changes the gradient only of ``torch.nn.ReLU`` modules, but this network has ``ReLU6``.
# Captum then returns the plain gradient, without a warning:

images = image.clone().requires_grad_()
guided = GuidedBackprop(model).attribute(images, target=target)
plain = Saliency(model).attribute(images, target=target, abs=False)
print("guided backpropagation is the plain gradient:", torch.equal(guided, plain))

# %%
# With a ReLU6 that is a subclass of ``ReLU``, Captum returns the guided gradient:


class GuidedReLU6(torch.nn.ReLU):
    """ReLU6, which Captum treats as a ReLU."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Clamps to the range from 0 to 6."""
        return torch.nn.functional.relu6(inputs)


def with_guided_relus(network: torch.nn.Module) -> torch.nn.Module:
    """Replaces every ReLU6 in the network."""
    for name, child in network.named_children():
        if isinstance(child, torch.nn.ReLU6):
            setattr(network, name, GuidedReLU6())
        with_guided_relus(child)
    return network


guided_model = with_guided_relus(copy.deepcopy(model))
guided = GuidedBackprop(guided_model).attribute(images, target=target)
print("and now:", torch.equal(guided, plain))
with torch.no_grad():
    print("the same logits:", torch.equal(guided_model(image), model(image)))

# %%
# The cascade
# -----------
#
# ``cascading_randomization`` randomizes a copy of the network from the classifier to the input, and
# yields the map after each step. By default, each module with parameters is one step. With
# ``layers``, each named module with its submodules is one step, and all other modules keep their
# trained parameters. To save time, we name every third block. A complete test uses all blocks.

blocks = [f"_blocks.{number}" for number in range(15, -1, -3)]
layers = ["_fc", "_conv_head", *blocks, "_conv_stem"]
methods = {
    "T-Grad": (model, TGradAttribution),
    "Grad-CAM": (model, lambda copied: LayerGradCam(copied, copied._conv_head)),
    "Guided Backprop": (guided_model, GuidedBackprop),
}
steps = {}
for name, (network, factory) in methods.items():
    steps[name] = list(
        cascading_randomization(network, factory, image, target=target, layers=layers)
    )

# %%
# What the maps look like
# -----------------------
#
# The title of each map is the layer that was randomized last.

figure = cascade_figure(steps["T-Grad"], [picture], title="T-Grad")
figure

# %%
# T-Grad's map becomes broader when the last convolution is random. After block 15, it is no longer
# related to the cup. From block 6 on, it consists of scattered spots.

figure = cascade_figure(steps["Guided Backprop"], [picture], title="Guided Backprop")
figure

# %%
# With a random classifier, last convolution and two blocks, guided backpropagation still shows the
# cup, the handle and the spoon as clearly as before. Its map shows the image, not the network.
#
# How similar the maps are
# ------------------------
#
# The figure shows Spearman's rank correlation with the map of the trained network, and the
# structural similarity:

figure = similarity_figure(steps)
figure

# %%
# Signed maps can also be compared without their signs:

print(f"{'after':12} " + "  ".join(f"{name:>15}" for name in steps))
for row in zip(*steps.values(), strict=True):
    name = row[0].layer or "trained"
    print(f"{name:12} " + "  ".join(f"{step.spearman_absolute[0]:15.2f}" for step in row))

# %%
# The maps of T-Grad and Grad-CAM depend on the trained parameters. That of guided backpropagation
# does not, until half of the network is random. There are two limitations. When only the classifier
# and the last convolution are random, T-Grad keeps a rank correlation of 0.6 to 0.8, because the
# detailed terms of the early layers still follow the edges of the image. The curves of T-Grad and
# Grad-CAM do not fall at every step, because they are from one image and one seed.
#
# Passing the test is necessary but not sufficient: random numbers pass it, too.
