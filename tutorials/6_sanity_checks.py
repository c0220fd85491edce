"""
Sanity checks
=============

A map that shows edges looks convincing, and may have nothing to do with what the network has
learned. The test of Adebayo et al. destroys the network layer by layer and watches the map: if it
stays, it explains the image and not the network.
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
# Guided backpropagation is known to fail this test, so it shows that the test can fail. There is a
# trap: Captum changes the gradient of modules of the type ``torch.nn.ReLU``, and this network has
# ``ReLU6``, which is another type. Captum's map is then the plain gradient, without a word:

images = image.clone().requires_grad_()
guided = GuidedBackprop(model).attribute(images, target=target)
plain = Saliency(model).attribute(images, target=target, abs=False)
print("guided backpropagation is the plain gradient:", torch.equal(guided, plain))

# %%
# Made a kind of ``ReLU``, the same function gets the guided gradient:


class GuidedReLU6(torch.nn.ReLU):
    """ReLU6, which Captum takes for a ReLU."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Cuts off at 0 and 6."""
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
# ``cascading_randomization`` works on a copy of the network. It randomizes it from the classifier
# to the input, and yields the map after each step. By default, each module with parameters is a
# step. With ``layers``, each named module is a step with all that is in it, and what is not named
# stays as it was trained. To be quick we name every third block: a whole test names all of them.

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
# Above each map stands the layer that was randomized last.

figure = cascade_figure(steps["T-Grad"], [picture], title="T-Grad")
figure

# %%
# T-Grad's map becomes broader when the last convolution is random, and with block 15 it has nothing
# to do with the cup any more. From block 6 on it consists of spots, which no one would take for an
# explanation.

figure = cascade_figure(steps["Guided Backprop"], [picture], title="Guided Backprop")
figure

# %%
# Guided backpropagation draws the cup, the handle and the spoon as clearly after the classifier,
# the last convolution and two blocks are random as before. It shows the image.
#
# How similar they stay
# ---------------------
#
# Spearman's rank correlation with the map of the trained network, and the structural similarity:

figure = similarity_figure(steps)
figure

# %%
# Maps with signs can be compared with their signs or without; here without:

print(f"{'after':12} " + "  ".join(f"{name:>15}" for name in steps))
for row in zip(*steps.values(), strict=True):
    name = row[0].layer or "trained"
    print(f"{name:12} " + "  ".join(f"{step.spearman_absolute[0]:15.2f}" for step in row))

# %%
# T-Grad and Grad-CAM depend on what the network has learned; guided backpropagation does not until
# half of the network is random. Two things to be honest about: T-Grad keeps a rank correlation of
# 0.6 to 0.8 when only the classifier and the last convolution are random, since the early layers'
# terms, which have the detail, still follow the image's edges; and its curve does not fall at
# every step, nor does that of Grad-CAM. One image and one seed make a rough curve.
#
# Passing the test is necessary, not sufficient: random numbers pass it too.
