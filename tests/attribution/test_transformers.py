"""Maps of trained transformers find what decides: the word of a text, the strokes of digits."""

import pytest
import torch

from captum_tgrad import TGradAttribution


@pytest.mark.parametrize("seed", [0, 5])
def test_a_text_classifier_is_explained_by_the_word_that_decides(seed):
    for package in ("sklearn", "timm", "transformers"):
        pytest.importorskip(package)
    from benchmarks.small_transformers import Bert, decisive_texts, methods_for_texts, share_found

    model = Bert(seed)
    tokens, target, places = decisive_texts(model)
    assert len(tokens) > 80
    methods = methods_for_texts(model)
    found = {name: method(tokens, target=target) for name, method in methods.items()}
    in_total = found["T-Grad"].sum((1, 2))
    assert float((found["T-Grad"][:, 0].sum(1) / in_total).min()) > 0.9  # the last norm, at [CLS]
    assert share_found(found["T-Grad"], places) > 0.95
    assert share_found(found["T-Grad by levels"], places) > 0.9
    assert share_found(found['T-Grad, `sign="all"`'], places) < 0.9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The baseline keeps")  # that of blank digits is some class
def test_a_vision_transformer_is_explained_better_than_by_chance():
    for package in ("sklearn", "timm", "transformers"):
        pytest.importorskip(package)
    from benchmarks.small_transformers import differences, digits, vision_transformer

    model = vision_transformer(0)
    images = digits()[0][1300:1310]
    whole = TGradAttribution(model).decompose(images, target=model(images).argmax(1))
    torch.testing.assert_close(whole["norm"].score, whole.output, rtol=0.05, atol=0.05)
    found = differences(model)
    assert found["T-Grad"] > 0.3
    assert abs(found["random"]) < 0.05
