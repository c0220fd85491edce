"""Maps of trained transformers find what decides: the word of a text, the strokes of digits."""

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from captum_tgrad import TGradAttribution
from captum_tgrad.metrics import insertion_deletion


@pytest.mark.parametrize("seed", [0, 5])
def test_a_text_classifier_is_explained_by_the_word_that_decides(seed):
    pytest.importorskip("transformers")
    from benchmarks.text_words import Bert, decisive_texts, methods, share_found

    model = Bert(seed)
    tokens, target, places = decisive_texts(model)
    assert len(tokens) > 80
    found = {name: method(tokens, target=target) for name, method in methods(model).items()}
    in_total = found["T-Grad"].sum((1, 2))
    assert float((found["T-Grad"][:, 0].sum(1) / in_total).min()) > 0.9  # the last norm, at [CLS]
    assert share_found(found["T-Grad"], places) > 0.95
    assert share_found(found["T-Grad by levels"], places) > 0.9
    assert share_found(found['T-Grad, `sign="all"`'], places) < 0.9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The baseline keeps")  # that of blank digits is some class
def test_a_vision_transformer_is_explained_better_than_by_chance():
    timm = pytest.importorskip("timm")
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    images = interpolate(images, scale_factor=4, mode="bilinear")
    labels = torch.tensor(digits.target)
    model = timm.models.VisionTransformer(
        img_size=32, patch_size=4, in_chans=1, num_classes=10, embed_dim=48, depth=4, num_heads=4
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(12):
        for batch in torch.randperm(1300).split(50):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()

    shown = images[1300:1400]
    target = model(shown).argmax(1)
    whole = TGradAttribution(model).decompose(shown, target=target)
    torch.testing.assert_close(whole["norm"].score, whole.output, rtol=0.05, atol=0.05)
    maps = {
        "t_grad": TGradAttribution(model).attribute(shown, target=target),
        "random": torch.rand_like(shown),
    }
    results = insertion_deletion(model, shown, maps, baselines=-1.0, target=target, n_steps=32)
    assert float(results["t_grad"].difference.mean()) > 0.3
    assert abs(float(results["random"].difference.mean())) < 0.05
