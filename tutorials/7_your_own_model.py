"""
Your own model
==============

This tutorial trains a small network on handwritten digits and explains it. The data come with
scikit-learn: ``pip install scikit-learn``.
"""

# %%
# The data
# --------
#
# The data set has 1797 digits of 8 x 8 pixels. We upsample them to 16 x 16 for the convolutions.

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import explanation_figure, methods_figure, term_scores_figure

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
images = nn.functional.interpolate(images, scale_factor=2, mode="bilinear").clamp(0, 1)
labels = torch.tensor(digits.target)
train, test = slice(0, 1300), slice(1300, None)
print(tuple(images[train].shape), tuple(images[test].shape))

# %%
# The network
# -----------
#
# The network has two convolutions with batch normalization. Six epochs of training take seconds.

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(4),
    nn.Flatten(),
    nn.Linear(32 * 16, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(6):
    for batch in torch.randperm(1300).split(50):
        optimizer.zero_grad()
        cross_entropy(model(images[train][batch]), labels[train][batch]).backward()
        optimizer.step()
model.eval()
with torch.no_grad():
    logits = model(images[test])
predictions = logits.argmax(dim=1)
accuracy = (predictions == labels[test]).float().mean()
print(f"{accuracy:.1%} of the test digits are classified correctly")

# %%
# The numbers on this page differ slightly between machines, because training does.
#
# One map per digit
# -----------------
#
# The figure shows the evidence for the predicted digit, the evidence against it, and the
# difference:

chosen = [int((labels[test] == digit).nonzero()[1]) for digit in range(4)]
inputs = images[test][chosen]
method = TGradAttribution(model)
attributions, delta = method.attribute(
    inputs, target=predictions[chosen], return_convergence_delta=True
)
maps = {
    "for": attributions,
    "against": method.attribute(inputs, target=predictions[chosen], sign="negative"),
    "both": method.attribute(inputs, target=predictions[chosen], sign="all"),
}
figure = methods_figure(
    inputs,
    maps,
    labels=[f"predicted {digit}" for digit in predictions[chosen].tolist()],
    overlay=False,
)
figure

# %%
# The evidence for and against is at similar positions. The difference follows the strokes better
# than either map. The maps are grainy because of max pooling: it passes one of four neighboring
# positions, and only this position gets a gradient.

# %%
# Is it complete?
# ---------------
#
# There are six terms: the input, and the biases of two convolutions, two batch norms and the
# classifier. Their scores add up to the logit:

print("logits   ", [round(value, 3) for value in logits[chosen].amax(dim=1).tolist()])
print("residuals", [f"{value:.0e}" for value in delta.tolist()])
decomposition = method.decompose(inputs, target=predictions[chosen])
figure = term_scores_figure(decomposition, sample=3, highlight=6)
figure

# %%
# The modules of an ``nn.Sequential`` have numbers as names: ``0`` is the first convolution, ``1``
# the first batch norm. The term of the convolution is large and negative, and that of the batch
# norm is large and positive, because a batch norm subtracts the running mean, which includes the
# bias before it. Therefore the maps for and against look similar.
#
# A misclassified digit
# ---------------------

wrong = (predictions != labels[test]).nonzero().flatten()
print(len(wrong), "of", len(predictions), "are misclassified")
margins = (logits.gather(1, predictions[:, None]) - logits.gather(1, labels[test][:, None]))[:, 0]
worst = int(margins.argmax())
predicted, true = int(predictions[worst]), int(labels[test][worst])
print(f"a {true} is classified as {predicted}, by {margins[worst]:.2f} logits")


def difference(images):
    """The logit of the predicted class minus that of the true one."""
    logits = model(images)
    return logits[:, predicted] - logits[:, true]


misclassified = images[test][worst : worst + 1]
contrast = TGradAttribution(difference).attribute(misclassified, sign="all")
figure = explanation_figure(misclassified, contrast, title=f"why {predicted} and not {true}")
figure

# %%
# Orange is evidence for the predicted digit. Most of it is at the upper right, on the stroke and in
# the empty area next to it.
#
# Covered digits
# --------------
#
# Is the map faithful? We blacken 40 of the 256 pixels in each correctly classified test digit, and
# count the predictions that stay the same.

right = (predictions == labels[test]).nonzero().flatten()
digits_right, targets = images[test][right], predictions[right]
signed = method.attribute(digits_right, target=targets, sign="all").flatten(1)
positive = method.attribute(digits_right, target=targets).flatten(1)
chance = torch.rand(positive.shape, generator=torch.Generator().manual_seed(0))
for name, importance in {
    "positive": positive,
    "all": signed,
    "random": chance,
    "brightness": digits_right.flatten(1),
}.items():
    places = importance.argsort(dim=1, descending=True)[:, :40]
    covered = digits_right.flatten(1).scatter(1, places, 0.0).reshape(digits_right.shape)
    with torch.no_grad():
        same = (model(covered).argmax(dim=1) == targets).float().mean()
    print(f"40 pixels by {name:10}: {same:.1%} keep their prediction")

# %%
# With random pixels covered, most predictions stay the same. With the highest pixels of the default
# map, about half stay the same. With those of ``sign="all"``, only one in five stays the same,
# fewer than with the brightest pixels. In this network, large terms cancel, and the signed map is
# more faithful. The default follows the paper. Measure which map is better for your network, as
# here or with the metrics of `Is this map any good? <3_is_it_any_good.html>`__.
