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
# - ``positive`` and ``negative``: two maps, of the evidence for the class and against it, at the
#   resolution of the layer. The sum of the first minus the sum of the second is the score.
#
# The scores and the residual, ``delta``, sum to the logit:

scores = torch.stack([term.score[0] for term in decomposition.terms])
print(f"logit                    {decomposition.output[0]:.4f}")
print(f"sum of {len(scores)} terms         {scores.sum():.4f}")
print(f"the input's term alone   {scores[0]:.4f}")

# %%
# The term of the input is Captum's input times gradient. Here it is a tenth of the logit. A map of
# this term alone leaves out nine tenths, which come from the biases of the layers.
#
# The path through the network
# ----------------------------
#
# The figure has one bar per term, in forward order. The largest terms are numbered.

figure = term_scores_figure(decomposition, highlight=6)
figure

# %%
# The large terms come in pairs. In block 1 and again in block 15, one batch normalization adds a
# large value, and another one near it subtracts a large value. The contribution of such a bias
# depends on what later layers subtract, so do not read a single score as "this layer is why". Only
# the sum of the scores is the network's output.
#
# These are the maps of the largest positive terms:

figure = layers_figure(decomposition, picture)
figure

# %%
# The maps follow the network from left to right. The input's term is on edges of the cup, the
# handle and the spoon. Block 1 is on the inside of the cup. From block 11 on, the resolution is 7 x
# 7: enough to find the coffee, but not its border. By far the largest term, ``_blocks.15._bn2``,
# has a map that covers the whole cup and the top of the saucer. It is the broad halo in the T-Grad
# map. The `interactive page <../how_to/walk_through.html>`__ has the map of every term.
#
# These are the terms with the most negative scores:

figure = layers_figure(decomposition, picture, sign="negative", terms=5)
figure

# %%
# They are at the same positions as the positive terms. The T-Grad map adds up only the terms with a
# positive score, so it has one term of each pair and leaves out the other. ``sign="negative"``
# shows the negative terms, and ``sign="all"`` the positive terms minus the negative terms.

# %%
# By resolution
# -------------
#
# How much of the logit arises at each resolution?

by_size = {}
for term in decomposition.terms:
    size = tuple(term.positive.shape[2:]) or ("no place",)
    by_size[size] = by_size.get(size, 0) + float(term.score[0])
for size, score in by_size.items():
    print(f"{' x '.join(map(str, size)):10} {score:+.3f}")

# %%
# More than the whole logit arises at a resolution of 7 x 7. The earlier layers almost cancel out.
#
# From a layer on
# ---------------
#
# ``LayerTGradAttribution`` replaces the input with the activation of a layer. It splits the output
# into the contribution of the activation and those of the biases after it. It is complete at every
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
# 0, the map still has the detail of the input's map. From block 4 on, the early terms are part of
# the activation, and the large terms of the last layers remain, so these maps look similar. None of
# them is more correct than the others. They answer different questions: where in the image, and
# where in the activation of this layer.
