"""
A misclassified image: evidence for and against
=================================================

The network classifies an off-road car as a *convertible*. What is the evidence for and against
this class, and why does it not predict *jeep*?
"""

# %%
# The mistake
# -----------
#
# The package ``foolbox`` contains 20 labeled images of ImageNet. The network misclassifies two of
# them, both labeled *jeep*. This is one of the two:

import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation import built_in_images
from captum_tgrad.metrics import blur
from captum_tgrad.visualization import explanation_figure, layers_figure, methods_figure
from captum_tgrad.zoo import load_classifier, load_image

classifier = load_classifier("efficientnet_lite0")
model = classifier.model
pictures = built_in_images(classifier)
number = pictures.names.index("imagenet_07_609.jpg")
picture = classifier.crop(load_image(pictures.files[number]))
image, label = pictures[number]
image = image.unsqueeze(0)
print("labeled", classifier.class_names[label])

with torch.no_grad():
    logits = model(image)[0]
for index in [*logits.topk(4).indices.tolist(), label]:
    print(
        f"  {classifier.class_names[index]:12} logit {logits[index]:5.2f},"
        f" probability {logits.softmax(dim=0)[index]:.1%}"
    )

# %%
# For and against
# ---------------
#
# ``sign="positive"`` (the default) returns the map of the terms with a positive score, and
# ``"negative"`` that of the terms with a negative score. ``"all"`` returns the first minus the
# second, the only map with both colors.

convertible, jeep = int(logits.argmax()), label
method = TGradAttribution(model)
maps = {
    sign: method.attribute(image, target=convertible, sign=sign)
    for sign in ("positive", "negative", "all")
}
figure = methods_figure(picture, maps, labels=["convertible"])
figure

# %%
# The evidence for and against *convertible* is at the same positions: the windows and the body of
# the car. The two sums are large and nearly equal. Their difference is the logit:

decomposition = method.decompose(image, target=convertible)
print(f"for {maps['positive'].sum():.2f}, against {maps['negative'].sum():.2f},")
print(f"all {maps['all'].sum():.3f}, the logit {decomposition.output[0]:.3f}")

# %%
# The map of one logit does not show why the network prefers one class to another: for every kind of
# car, the evidence is on the car.
#
# Why this class and not that one
# -------------------------------
#
# To compare two classes, explain the difference of their logits. This function returns one number
# per sample, so it needs no target. The evidence that both logits share cancels.


def difference(images):
    """The logit of convertible minus that of jeep."""
    logits = model(images)
    return logits[:, convertible] - logits[:, jeep]


contrast = TGradAttribution(difference)
attributions, delta = contrast.attribute(image, sign="all", return_convergence_delta=True)
figure = explanation_figure(
    picture,
    attributions,
    title=f"convertible and not jeep: {difference(image).item():+.2f} logits",
    residual=delta,
)
figure

# %%
# Orange is evidence for *convertible*: the low side windows and the line of the doors, along the
# whole body. Violet is evidence for *jeep*: spots on the hood and the mirror. A person would see
# the rocks as a sign of an off-road car, but they have almost no weight in either direction.
#
# The terms of the difference
# ---------------------------

whole = contrast.decompose(image)
figure = layers_figure(whole, picture, sign="all", terms=9, title="convertible minus jeep")
figure

# %%
# Many layers contribute, with both signs. The two largest terms of the last block partly cancel, as
# in `Through the layers <2_through_the_layers.html>`__. The input's term is 83% of this difference.
# For the espresso, it was a tenth of the logit.
#
# Test the explanation
# --------------------
#
# We blur a tenth of the pixels: those with the most evidence for *convertible* over *jeep*, those
# with the most evidence for *jeep*, or random pixels.

summed = attributions.sum(dim=1, keepdim=True)
count = summed.numel() // 10
generator = torch.Generator().manual_seed(0)
order = {
    "most for convertible": summed.flatten().argsort(descending=True),
    "most for jeep": summed.flatten().argsort(),
    "at random": torch.randperm(summed.numel(), generator=generator),
}
blurred = blur(51, 10)(image)
for name, places in order.items():
    mask = torch.zeros(summed.numel())
    mask[places[:count]] = 1
    covered = torch.lerp(image, blurred, mask.reshape(summed.shape))
    with torch.no_grad():
        found = model(covered)[0].softmax(dim=0)
        value = difference(covered)
    print(
        f"{name:21} difference {value.item():+.2f},"
        f" convertible {found[convertible]:5.1%}, jeep {found[jeep]:.1%}"
    )

# %%
# Without the orange pixels, most of the difference is gone, and *jeep* has ten times its
# probability. Without the violet pixels, the difference grows. Blurring random pixels changes
# little. So the map shows the pixels that the network uses. Even without the orange pixels, the
# network is wrong: *convertible* still comes before *jeep*.
