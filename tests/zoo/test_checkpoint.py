"""Weights come out of files in every usual shape, and nothing else does."""

import os
import pickle

import pytest
import torch
from torch import nn

from captum_tgrad.zoo.checkpoint import read_state_dict
from captum_tgrad.zoo.recipe import count_classes, load_weights


def _network(classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, classes))


WEIGHTS = _network().state_dict()


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        dict(WEIGHTS),
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": WEIGHTS},
        {"epoch": 3, "model_state_dict": WEIGHTS, "optimizer_state_dict": {"lr": 0.1}},
        {f"module.{key}": value for key, value in WEIGHTS.items()},
        {"state_dict": {f"module.{key}": value for key, value in WEIGHTS.items()}},
        {f"module._orig_mod.{key}": value for key, value in WEIGHTS.items()},
        {f"model.{key}": value for key, value in WEIGHTS.items()},
    ],
)
def test_read_state_dict_finds_the_weights(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    loaded = read_state_dict(tmp_path / "weights.pt")
    assert list(loaded) == list(WEIGHTS)
    for key, value in WEIGHTS.items():
        torch.testing.assert_close(loaded[key], value, rtol=0, atol=0)


def test_read_state_dict_refuses_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights .*absent\.pt"):
        read_state_dict(tmp_path / "absent.pt")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], {"state_dict": {"a": 1}}])
def test_read_state_dict_refuses_data_without_weights(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"holds no state dict.*torch\.save\(model\.state_dict"):
        read_state_dict(tmp_path / "weights.pt")


@pytest.mark.parametrize("content", [b"", b"just text", b"\x89PNG\r\n", b"PK\x03\x04 cut off"])
def test_read_state_dict_refuses_other_files(tmp_path, content):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pt was not loaded: it is damaged"):
        read_state_dict(tmp_path / "weights.pt")


class _Payload:
    """Runs a command when it is unpickled: here, makes a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("write", ["torch.save", "pickle.dump"])
def test_read_state_dict_runs_nothing_in_the_file(tmp_path, write):
    content = {"state_dict": WEIGHTS, "payload": _Payload(str(tmp_path / "made-by-payload"))}
    path = tmp_path / "weights.pt"
    if write == "torch.save":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"could run code.*torch\.save\(model\.state_dict\(\), 'w"):
        read_state_dict(path)
    assert not (tmp_path / "made-by-payload").exists()


def test_read_state_dict_refuses_a_whole_network(tmp_path):
    torch.save(_network(), tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"could run code.*torch\.save\(model\.state_dict\(\), 'n"):
        read_state_dict(tmp_path / "network.pt")


def test_count_classes_is_the_height_of_the_last_weight():
    assert count_classes(WEIGHTS) == 4
    assert count_classes({"bias": torch.zeros(3)}) is None


def test_load_weights_fills_the_network():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))
    old = {key: value for key, value in WEIGHTS.items() if "num_batches_tracked" not in key}
    load_weights(network, old, "weights.pt")
    inputs = torch.ones(1, 3, 2, 2)
    torch.testing.assert_close(network.eval()(inputs), _network().eval()(inputs))


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ({k: v for k, v in WEIGHTS.items() if k != "3.bias"}, r"missing: 3\.bias"),
        ({**WEIGHTS, "4.bias": torch.zeros(1)}, r"unexpected: 4\.bias"),
        (
            {**WEIGHTS, "3.weight": torch.zeros(5, 8)},
            r"of another shape: 3\.weight \(5, 8\) instead of \(4, 8\)",
        ),
        (
            {f"layer{i}.weight": torch.zeros(1) for i in range(9)},
            r"missing: .* and 5 more; unexpected: layer0\.weight, .* and 6 more",
        ),
    ],
)
def test_load_weights_names_what_does_not_fit(state_dict, message):
    with pytest.raises(ValueError, match=rf"weights\.pt does not fit the network \(.*{message}"):
        load_weights(_network(), state_dict, "weights.pt")
