"""
A first map
===========

A classifier says *espresso*. Which pixels made it say that? This tutorial makes the T-Grad map of
one image, draws it, and checks that nothing is missing from it.
"""

# %%
# A network and an image
# -----------------------
#
# T-Grad explains any PyTorch model that can be differentiated, in evaluation mode. Here we take
# EfficientNet-Lite0, trained on ImageNet, because its weights come as a Python package, with the
# extra ``cli``. ``load_classifier`` returns it with all that goes with it: the names of its classes,
# and the way from an image to a tensor. In a notebook a figure at the end of a cell is shown; in a
# script, write ``figure.savefig("map.png")``.

import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import explanation_figure
from captum_tgrad.zoo import load_classifier, sample_image

classifier = load_classifier("efficientnet_lite0")
picture = sample_image()
image = classifier.preprocess(picture).unsqueeze(0)
print("what the network is given:", tuple(image.shape))

# %%
# The model returns logits, one for each of 1000 classes. What it predicts:

with torch.no_grad():
    logits = classifier.model(image)
probabilities = logits.softmax(dim=1)[0]
for index in probabilities.topk(3).indices.tolist():
    print(
        f"{classifier.class_names[index]:12} class {index}, logit {logits[0, index]:5.2f},"
        f" probability {probabilities[index]:.1%}"
    )

# %%
# The map
# -------
#
# ``TGradAttribution`` is used like every attribution of Captum: it is constructed from the model,
# and ``attribute`` takes the inputs and the target, the class to explain. With
# ``return_convergence_delta=True`` the residual comes along.

target = int(probabilities.argmax())
method = TGradAttribution(classifier.model)
attributions, delta = method.attribute(image, target=target, return_convergence_delta=True)
print("attributions:", tuple(attributions.shape))

# %%
# The attributions have the shape of the image. Their sum over the three color channels is the map;
# the figures take that sum for you. ``crop`` cuts out of the photograph what the network saw, so
# that the map lies where it belongs.

figure = explanation_figure(
    classifier.crop(picture),
    attributions,
    class_name=classifier.class_names[target],
    probability=probabilities[target],
    residual=delta,
)
figure

# %%
# The strongest evidence for *espresso* is on the coffee and on the white inside of the cup behind
# it. Around them lies a broad halo: much of what this network computes it computes at 7 x 7 places,
# and such terms cannot point at pixels. Each place of the saucer, the spoon and the table counts for less,
# though together they hold over half of the map.
#
# What the numbers mean
# ---------------------
#
# A network of convolutions, normalizations and ReLUs is linear around each image, so that its
# output is the input times the gradient, plus what the biases of all layers contribute. T-Grad
# computes every one of these terms. They have to add up to the logit, and the residual ``delta`` is
# what is left over:

print(f"logit    {logits[0, target]:.4f}")
print(f"residual {delta.item():.1e}")

# %%
# The residual is rounding: the explanation is complete. It is computed at every call, and if it is
# more than rounding, a warning says so and, where it can, names the layer to look at.
#
# Each term has its own map of evidence for the class. The T-Grad map is the sum of these maps, each
# scaled to a sum of 1 and weighted by its term's score; terms with a negative score get no weight.
# That is why the map is never negative, and
# why it sums to the positive scores rather than to the logit:

decomposition = method.decompose(image, target=target)
scores = torch.stack([term.score[0] for term in decomposition.terms])
print(f"{len(scores)} terms: the input and {len(scores) - 1} operations that add a bias")
print(f"sum of the map             {attributions.sum():.3f}")
print(f"sum of the positive scores {scores.clamp_min(0).sum():.3f}")
print(f"sum of the negative scores {scores.clamp_max(0).sum():.3f}")
print(f"their sum and the residual {scores.sum() + decomposition.delta[0]:.3f}")

# %%
# A second class
# --------------
#
# The target need not be the predicted class. Why would one think of a *cup*?

cup = classifier.class_names.index("cup")
cup_attributions = method.attribute(image, target=cup)
figure = explanation_figure(
    classifier.crop(picture),
    cup_attributions,
    class_name=classifier.class_names[cup],
    probability=probabilities[cup],
)
figure

# %%
# Both classes rest on the same places. For the cup the coffee counts a little less, so that the white
# inside stands out beside it. The two maps differ in detail, as the classes do: what sets them apart
# is the subject of `For and against <5_evidence_for_and_against.html>`__.

# %%
# Several images at once
# ----------------------
#
# Like all of Captum, the method takes batches, and a target for each sample. Both maps from above
# in one call:

both = method.attribute(image.repeat(2, 1, 1, 1), target=[target, cup])
difference = (both - torch.cat([attributions, cup_attributions])).abs().max()
print(f"largest difference to the maps above: {difference:.1e}, of {both.max():.1e} at most")

# %%
# From here: `Through the layers <2_through_the_layers.html>`__ looks at the terms, and `Is this map any good? <3_is_it_any_good.html>`__ measures
# whether the map is right about the network.
