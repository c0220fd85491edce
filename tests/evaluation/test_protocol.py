"""A changed protocol is refused, and what changed is named."""

import json

import numpy as np
import pytest
import torch

from captum_tgrad.evaluation import Method, evaluate
from captum_tgrad.evaluation.storage.digests import fingerprint, image_digest
from captum_tgrad.evaluation.storage.protocol import joined, read_protocol
from tests.evaluation.networks import images, network

OLD = {"n_steps": 224, "versions": {"torch": "2.9"}, "methods": {"t_grad": {}, "ig": {"n": 50}}}


def test_a_protocol_is_kept_beside_the_records(tmp_path):
    assert read_protocol(tmp_path) is None
    (tmp_path / "protocol.json").write_text(json.dumps(OLD))
    assert read_protocol(tmp_path) == OLD
    (tmp_path / "protocol.json").write_text("{")
    with pytest.raises(ValueError, match=r"protocol\.json is damaged"):
        read_protocol(tmp_path)


def test_methods_may_be_added_and_left_out():
    new = {**OLD, "methods": {"saliency": {"pair": (1, 2)}, "ig": {"n": 50}}}
    assert joined(OLD, new)["methods"] == {"t_grad": {}, **new["methods"]}
    assert joined(OLD, OLD) == OLD


@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_settings_of_a_method_may_be_numpy_numbers(tmp_path):
    def of(number, share):
        settings = {"number": number, "shares": [share]}
        return Method("own", "Own", "none", lambda *_: lambda inputs, target: inputs, settings)

    options = {"n_steps": 2, "out": tmp_path, "target": "predicted"}
    evaluate(network(), images(2), [of(np.int64(3), np.float32(0.5))], **options)
    assert read_protocol(tmp_path)["methods"]["own"] == {"number": 3, "shares": [0.5]}
    evaluate(network(), images(2), [of(3, 0.5)], **options, resume=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_steps": 32}, "n_steps was 224, is 32"),
        ({"versions": {"torch": "2.10"}}, "versions.torch was '2.9', is '2.10'"),
        ({"versions": {}}, "versions.torch was '2.9', is not set"),
        ({"methods": {"ig": {"n": 20}}}, "methods.ig.n was 50, is 20"),
        ({"score": "logit"}, "score was not set, is 'logit'"),
    ],
)
def test_any_other_change_is_refused_and_named(change, named):
    with pytest.raises(ValueError, match=f"used other settings: {named}"):
        joined(OLD, {**OLD, **change})


def test_every_change_is_named_at_once():
    with pytest.raises(ValueError, match=r"n_steps was 224.*; versions\.torch was"):
        joined(OLD, {**OLD, "n_steps": 1, "versions": {"torch": "3"}})


def test_a_fingerprint_follows_parameters_and_buffers():
    model = network()
    first = fingerprint(model)
    assert first == fingerprint(network())
    model[1].running_mean[0] += 1
    second = fingerprint(model)
    with torch.no_grad():
        model[8].bias[0] += 1e-6
    assert len({first, second, fingerprint(model)}) == 3


def test_a_digest_tells_images_apart_but_not_their_last_bits():
    for image in images(20):
        assert image_digest(image) == image_digest(image * (1 + 1e-7))
        assert image_digest(image) == image_digest(image.contiguous().double())
    image = images(1)[0]
    others = [1.1 * image, -image, image.flip(0), image.flip(2), image[:, :8], 0 * image]
    digests = {image_digest(each) for each in (image, *images(50, seed=1), *others)}
    assert len(digests) == 57
    # Also what is smaller than the grid, and what a black image may be.
    for shape in ((3, 2, 2), (3, 1, 1), (1, 1), (3,)):
        assert image_digest(torch.zeros(shape)) != image_digest(torch.ones(shape))
