"""
Through the layers
==================

T-Grad splits a logit into one term for the input and one for every bias of every layer. This
tutorial takes the logit apart, draws the path through the network, and then explains the network
from one of its layers on.
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
# A term is named after the module that adds it, and has
#
# - ``score``: what it adds to the logit, signed;
# - ``positive`` and ``negative``: two maps, of the evidence for the class and against it, at the
#   resolution of the layer. The sum of the first minus that of the second is the score.
#
# The scores and the residual ``delta`` sum to the logit:

scores = torch.stack([term.score[0] for term in decomposition.terms])
print(f"logit                    {decomposition.output[0]:.4f}")
print(f"sum of {len(scores)} terms         {scores.sum():.4f}")
print(f"the input's term alone   {scores[0]:.4f}")

# %%
# The term of the input is what Captum calls input times gradient. Here it is a tenth of the logit:
# a map made from it alone leaves out nine tenths, which come from the biases of the layers.
#
# The path through the network
# ----------------------------
#
# A bar for each term, in the order in which the network computes them; the largest are numbered.

figure = term_scores_figure(decomposition, highlight=6)
figure

# %%
# The large terms come in pairs. In block 1 and again in block 15, one batch normalization adds much
# and another one near it takes much away. What such a bias adds depends on what the following
# layers subtract, so that a single score should not be read as "this layer is why". Their sum is
# what the network says.
#
# The maps of the largest positive terms:

figure = layers_figure(decomposition, picture)
figure

# %%
# From left to right one follows the network: the input's own term is on edges, of the cup but also
# of the handle and the spoon; block 1 is on the inside of the cup; from block 11 on there are 7 x 7
# places, enough to say "the coffee" but not where its border is. By far the largest term,
# ``_blocks.15._bn2``, has a map that covers the whole cup and the top of the saucer: this is the
# broad halo in the T-Grad map. A `page to walk through <../how_to/walk_through.html>`__ has the map
# of every term.
#
# The terms with the most negative scores, and where they lie:

figure = layers_figure(decomposition, picture, sign="negative", terms=5)
figure

# %%
# They are where the positive ones are. T-Grad adds up the maps of the terms with a positive score
# and leaves these out, so its map has one part of each pair and not the other. ``sign="negative"``
# shows these, and ``sign="all"`` the first minus the second.

# %%
# By resolution
# -------------
#
# How much of the logit arises where the network works with few places or many:

by_size = {}
for term in decomposition.terms:
    size = tuple(term.positive.shape[2:]) or ("no place",)
    by_size[size] = by_size.get(size, 0) + float(term.score[0])
for size, score in by_size.items():
    print(f"{' x '.join(map(str, size)):10} {score:+.3f}")

# %%
# More than the whole logit arises at 7 x 7 places; the layers before almost cancel out.
#
# From a layer on
# ---------------
#
# ``LayerTGradAttribution`` puts the activation of a layer in the place of the input: the output is
# split into what comes from the activation and the biases after it. It is complete at every layer.

maps = {"input": TGradAttribution(model).attribute(image, target=target)}
for number in (0, 4, 10, 15):
    method = LayerTGradAttribution(model, model._blocks[number])
    attributions, delta = method.attribute(image, target=target, return_convergence_delta=True)
    print(f"block {number:2}: {tuple(attributions.shape)}, residual {delta.item():+.1e}")
    maps[f"block {number}"] = attributions
figure = methods_figure(picture, maps)
figure

# %%
# A layer's map has the layer's shape; the figure sums it over channels and enlarges it. From the
# output of block 0 on, the map still has the detail of the input's. From block 4 on, the early
# terms are part of the activation, and what remains are the large terms of the last layers: these
# maps look alike, and none of them is more "true" than the other. They answer different questions:
# where in the image, and where in the activation of this layer.
