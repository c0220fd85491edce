"""
A misclassified picture: evidence for and against
=================================================

The network calls an off-road car a *convertible*. What speaks for that, what against it, and why
does it not say *jeep*?
"""

# %%
# The mistake
# -----------
#
# The package ``foolbox`` carries 20 labelled pictures of ImageNet. Of these, the network gets two
# wrong; both are labelled *jeep*. This is one of them:

import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation import built_in_pictures
from captum_tgrad.visualization import explanation_figure, layers_figure, methods_figure
from captum_tgrad.zoo import load_classifier, load_image

classifier = load_classifier("efficientnet_lite0")
model = classifier.model
pictures = built_in_pictures(classifier)
number = pictures.names.index("imagenet_07_609.jpg")
picture = classifier.crop(load_image(pictures.files[number]))
image, label = pictures[number]
image = image.unsqueeze(0)
print("labelled", classifier.class_names[label])

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
# with both colours.

convertible, jeep = int(logits.argmax()), label
method = TGradAttribution(model)
maps = {
    sign: method.attribute(image, target=convertible, sign=sign)
    for sign in ("positive", "negative", "all")
}
figure = methods_figure(picture, maps, labels=["convertible"], scale="shared")
figure

# %%
decomposition = method.decompose(image, target=convertible)
print(f"for {maps['positive'].sum():.2f}, against {maps['negative'].sum():.2f},")
print(f"all {maps['all'].sum():.3f}, the logit {decomposition.output[0]:.3f}")

# %%
# Why this class and not that one
# -------------------------------


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
# The terms of the difference
# ---------------------------

whole = contrast.decompose(image)
figure = layers_figure(whole, picture, sign="all", terms=9, title="convertible minus jeep")
figure

# %%
# Does it hold?
# -------------
#
# A claim about the network can be tested on it. Cover the tenth of the pixels that speak most for *convertible
# and not jeep*, and that speak most against it.

summed = attributions.sum(dim=1, keepdim=True)
count = summed.numel() // 10
generator = torch.Generator().manual_seed(0)
order = {
    "most for convertible": summed.flatten().argsort(descending=True),
    "most for jeep": summed.flatten().argsort(),
    "at random": torch.randperm(summed.numel(), generator=generator),
}
from captum_tgrad.metrics import blur

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
        f" convertible {found[convertible]:.1%}, jeep {found[jeep]:.1%}, top {classifier.class_names[int(found.argmax())]}"
    )
