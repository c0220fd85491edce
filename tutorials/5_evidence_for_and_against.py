"""
A misclassified image: evidence for and against
=================================================

The network calls an off-road car a *convertible*. What speaks for that, what against it, and why
does it not say *jeep*?
"""

# %%
# The mistake
# -----------
#
# The package ``foolbox`` carries 20 labeled images of ImageNet. Of these, the network gets two
# wrong; both are labeled *jeep*. This is one of them:

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
# ``sign="positive"``, the default, is the map of the terms with a positive score; ``"negative"``
# that of the terms with a negative one; ``"all"`` is the first minus the second, and the only one
# with both colors.

convertible, jeep = int(logits.argmax()), label
method = TGradAttribution(model)
maps = {
    sign: method.attribute(image, target=convertible, sign=sign)
    for sign in ("positive", "negative", "all")
}
figure = methods_figure(picture, maps, labels=["convertible"])
figure

# %%
# What speaks for *convertible* and what speaks against it are in the same place, the windows and
# the body of the car. The two sums are large and nearly equal; their difference is the logit:

decomposition = method.decompose(image, target=convertible)
print(f"for {maps['positive'].sum():.2f}, against {maps['negative'].sum():.2f},")
print(f"all {maps['all'].sum():.3f}, the logit {decomposition.output[0]:.3f}")

# %%
# So a map of one logit says "here is what counts", and little about the choice: a car is where a
# car is, for every kind of car.
#
# Why this class and not that one
# -------------------------------
#
# The choice between two classes is the difference of their logits. It is a function of the image
# with one number for each sample, and can be explained like any other; no target is needed. What
# both logits have in common cancels out, before the signs of the terms are looked at.


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
# Orange speaks for *convertible*: the low side windows and the line of the doors, along the whole
# body. Violet speaks for *jeep*: spots on the bonnet and the mirror. The rocks, which a person
# would take as the sign of an off-road car, have almost no weight in either direction.
#
# The terms of the difference
# ---------------------------

whole = contrast.decompose(image)
figure = layers_figure(whole, picture, sign="all", terms=9, title="convertible minus jeep")
figure

# %%
# Many layers take part, with both signs. The two largest of the last block cancel out in part, as
# in `Through the layers <2_through_the_layers.html>`__. The input's own term, which was a tenth of the logit of the
# espresso, is 83% of this difference.
#
# Does it hold?
# -------------
#
# A claim about the network can be tested on it. We blur a tenth of the pixels: those that speak
# most for *convertible* and not *jeep*, those that speak most for *jeep*, and some at random.

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
# Without the pixels that the map has in orange, nearly all of the difference is gone and *jeep* has
# ten times its probability. Without those in violet, the difference grows. The same number of
# pixels at random changes little. The map does say what the network looked at; it does not say that
# the network would get it right without them: *convertible* still comes before *jeep*.
