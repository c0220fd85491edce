"""Maps of trained transformers find what decides: the word of a text, the strokes of digits."""

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.metrics import insertion_deletion


def _texts(count, generator):
    """``[CLS]``, ten words, ``[SEP]``; one of the words decides the class."""
    tokens = torch.randint(20, 100, (count, 12), generator=generator)
    tokens[:, 0], tokens[:, -1] = 1, 2
    labels = torch.randint(2, (count,), generator=generator)
    places = torch.randint(1, 11, (count,), generator=generator)
    words = torch.randint(10, 15, (count,), generator=generator) + 5 * labels
    tokens[torch.arange(count), places] = words
    return tokens, labels, places


def test_a_text_classifier_is_explained_by_the_word_that_decides():
    transformers = pytest.importorskip("transformers")
    generator = torch.Generator().manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_labels=2,
    )
    model = transformers.BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(120):
        tokens, labels, _ = _texts(64, generator)
        optimizer.zero_grad()
        cross_entropy(model(input_ids=tokens).logits, labels).backward()
        optimizer.step()
    model.eval()

    tokens, labels, places = _texts(200, generator)
    method = LayerTGradAttribution(
        lambda tokens: model(input_ids=tokens).logits, model.get_input_embeddings()
    )
    attributions = method.attribute(tokens, target=labels, channel_dim=-1).sum(2)
    assert float((attributions[:, 0] / attributions.sum(1)).min()) > 0.9  # the last norm, at [CLS]
    found = attributions[:, 1:].argmax(1) + 1 == places
    assert float(found.float().mean()) > 0.95
    signed = method.attribute(tokens, target=labels, channel_dim=-1, sign="all").sum(2)
    assert float((signed[:, 1:].argmax(1) + 1 == places).float().mean()) < 0.8


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
