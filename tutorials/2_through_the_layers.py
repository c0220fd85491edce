"""
Through the layers
==================

T-Grad splits a logit into one term for the input and one term for every bias of every layer. This
tutorial decomposes a logit, draws the path through the network, and explains the network from one of
its layers on.
"""

# %%
# The terms
# ---------

import torch

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.visualization import layers_figure, methods_figure, term_scores_figure
from captum_tgrad.zoo import load_classifier, sample_image

classifier = load_classifier("efficientnet_lite0")
model = classifier.model
picture = classifier.crop(sample_image())
image = classifier.preprocess(sample_image()).unsqueeze(0)
target = classifier.class_names.index("espresso")

decomposition = TGradAttribution(model).decompose(image, target=target)
largest = sorted(decomposition.terms, key=lambda term: -term.score[0].abs())
for term in largest[:8]:
    print(f"{term.score[0]:+7.3f}  {term.name:32} map of {tuple(term.positive.shape[2:])}")

# %%
# A term has the name of the module that adds it, and these attributes:
#
# - ``score``: its signed contribution to the logit.
# - ``positive`` and ``negative``: maps of the evidence for the class and against it, at the
#   resolution of the layer. The score is the sum of the first minus the sum of the second.
#
# The scores and the residual, ``delta``, sum to the logit:

scores = torch.stack([term.score[0] for term in decomposition.terms])
print(f"logit                    {decomposition.output[0]:.4f}")
print(f"sum of {len(scores)} terms         {scores.sum():.4f}")
print(f"the input's term alone   {scores[0]:.4f}")

# %%
# The input's term is Captum's ``InputXGradient``. Here, it is a tenth of the logit. The other nine
# tenths come from the biases of the layers.
#
# The path through the network
# ----------------------------
#
# The figure has one bar per term, in forward order, and numbers the input's term and the
# five largest others.

figure = term_scores_figure(decomposition, highlight=6)
figure

# %%
# The large terms come in pairs. In block 1 and again in block 15, one batch norm adds a large
# value, and a nearby one subtracts a large value. So a single score does not show that a layer is
# important. Only the sum of the scores is the network's output.
#
# These are the maps of the largest positive terms:

figure = layers_figure(decomposition, picture)
figure

# %%
# The maps are in the order of the layers. The input's term is on edges of the cup, the handle and
# the spoon. The term of block 1 is on the inside of the cup. From block 11 on, the resolution is 7
# x 7: enough to find the coffee, but not its border. The map of the largest term by far,
# ``_blocks.15._bn2``, covers the whole cup and the top of the saucer. It causes the broad halo in
# the T-Grad map. The `interactive page <../how_to/walk_through.html>`__ has the map of every term.
#
# These are the input's term and those with the most negative scores:

figure = layers_figure(decomposition, picture, sign="negative", terms=5)
figure

# %%
# The negative terms are at the same positions as the positive ones. The T-Grad map adds up only the
# terms with a positive score, so it contains only one term of each pair. ``sign="negative"`` shows
# the negative terms, and ``sign="all"`` the positive terms minus the negative terms.

# %%
# By resolution
# -------------
#
# How much does each resolution contribute to the logit?

by_size = {}
for term in decomposition.terms:
    size = tuple(term.positive.shape[2:]) or ("no position",)
    by_size[size] = by_size.get(size, 0) + float(term.score[0])
for size, score in by_size.items():
    print(f"{' x '.join(map(str, size)):11} {score:+.3f}")

# %%
# The terms with a resolution of 7 x 7 sum to more than the logit. The terms of the earlier layers
# almost cancel.
#
# From a layer on
# ---------------
#
# ``LayerTGradAttribution`` replaces the input with the activation of a layer. It splits the output
# into the contribution of the activation and those of all later biases. It is complete at every
# layer.

maps = {"input": TGradAttribution(model).attribute(image, target=target)}
for number in (0, 4, 10, 15):
    method = LayerTGradAttribution(model, model._blocks[number])
    attributions, delta = method.attribute(image, target=target, return_convergence_delta=True)
    print(f"block {number:2}: {tuple(attributions.shape)}, residual {delta.item():+.1e}")
    maps[f"block {number}"] = attributions
figure = methods_figure(picture, maps)
figure

# %%
# A layer's map has the layer's shape. The figure sums it over channels and upsamples it. At block
# 0, the map is as detailed as the input's map. From block 4 on, the early terms are part of the
# activation, and the large terms of the last layers remain, so these maps look similar. None of
# them is more correct than the others. They answer different questions: where in the image, or
# where in the activation of a layer.
