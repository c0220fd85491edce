"""
Your own model
==============

A small network is trained here on real handwritten digits, and then explained. The data come with
scikit-learn, which this tutorial needs: ``pip install scikit-learn``.
"""

# %%
# The data
# --------
#
# 1797 digits of 8 x 8 pixels. They are enlarged to 16 x 16, so that the convolutions have room.

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
optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(6):
    for batch in torch.randperm(1300).split(50):
        optimiser.zero_grad()
        cross_entropy(model(images[train][batch]), labels[train][batch]).backward()
        optimiser.step()
model.eval()
with torch.no_grad():
    logits = model(images[test])
predictions = logits.argmax(dim=1)
accuracy = (predictions == labels[test]).float().mean()
print(f"{accuracy:.1%} of the test digits are read correctly")

# %%
# One map for each digit
# ----------------------

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
    inputs, maps, labels=[f"read as {digit}" for digit in predictions[chosen].tolist()], overlay=False
)
figure

# %%
# Is it complete?
# ---------------

print("logits   ", [round(value, 3) for value in logits[chosen].amax(dim=1).tolist()])
print("residuals", [f"{value:.0e}" for value in delta.tolist()])
decomposition = method.decompose(inputs, target=predictions[chosen])
figure = term_scores_figure(decomposition, sample=3, highlight=[t.name for t in decomposition.terms])
figure

# %%
# A misread digit
# ---------------

wrong = (predictions != labels[test]).nonzero().flatten()
print(len(wrong), "of", len(predictions), "are misread")
margins = (logits.gather(1, predictions[:, None]) - logits.gather(1, labels[test][:, None]))[:, 0]
worst = int(margins.argmax())
read, true = int(predictions[worst]), int(labels[test][worst])
print(f"a {true} is read as {read}, by {margins[worst]:.2f} logits")


def difference(images):
    """The logit of the class that was read minus that of the true one."""
    logits = model(images)
    return logits[:, read] - logits[:, true]


misread = images[test][worst : worst + 1]
contrast = TGradAttribution(difference).attribute(misread, sign="all")
figure = explanation_figure(misread, contrast, title=f"why {read} and not {true}")
figure

# %%
# It is a badly written 9: its loop is closed only by grey pixels. What makes it a 5 are the pixels
# where the right side of the loop bends back to the stroke and the empty place beside it.
#
# Covered digits
# --------------
#
# Is the map right about this network? We blacken 40 of the 256 places in each test digit that the
# network read correctly, and count how many it still reads the same way.

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
    print(f"40 places by {name:10}: {same:.1%} read the same way")
