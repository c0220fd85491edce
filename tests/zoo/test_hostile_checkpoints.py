"""Checkpoints that claim more than they hold get a message, and no memory."""

import pickle
import resource
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from captum_tgrad.zoo import load_classifier
from captum_tgrad.zoo.checkpoint import read_state_dict
from captum_tgrad.zoo.recipe import build_with

HUGE = 10**10


class _Larger:
    """Is pickled as a tensor with more elements than its storage has."""

    def __init__(self, elements: int) -> None:
        self.elements = elements

    def __reduce__(self):
        storage = torch.ones(3)._typed_storage()
        arguments = (storage, 0, (self.elements,), (1,), False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


def _sparse() -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (HUGE, 9))


def _csr() -> torch.Tensor:
    rows = torch.tensor([0, 1], dtype=torch.long)
    return torch.sparse_csr_tensor(rows, torch.zeros(1, dtype=torch.long), torch.ones(1), (1, HUGE))


@pytest.mark.filterwarnings("ignore:(Sparse|TypedStorage|.*quantize)")
@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.zeros(1).expand(10**6, 10**6), "larger than the whole file"),
        (lambda: _Larger(HUGE), "larger than its storage"),
        (_sparse, "is sparse"),
        (_csr, "is sparse"),
        (lambda: torch.ones(2, 3, dtype=torch.complex64), "is complex"),
        (lambda: torch.quantize_per_tensor(torch.ones(2, 2), 1.0, 0, torch.qint8), "is quantized"),
    ],
)
def test_what_cannot_be_weights_is_refused(tmp_path, make, said, as_zip):
    path = tmp_path / "weights.pt"
    content = {"fc.weight": make(), "fc.bias": torch.ones(3)}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"weights\.pt was not loaded: .*{said}.*torch\.save"):
        read_state_dict(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_a_compressed_file_is_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(10**6)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match=r"bomb\.pt was not loaded: .* is compressed"):
        read_state_dict(tmp_path / "bomb.pt")


def test_an_old_file_that_claims_storages_is_refused(tmp_path):
    """The format before version 1.6 says how large a storage is, and torch.load takes memory."""
    path = tmp_path / "weights.pt"
    torch.save({"fc.weight": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    small, huge = pickle.dumps(3, 2)[2:-1], pickle.dumps(HUGE, 2)[2:-1]
    content = path.read_bytes()
    assert content.count(b"cpuq\x06" + small) + content.count(b"cpuq\x07" + small) == 1
    for memo in (b"\x06", b"\x07"):
        content = content.replace(b"cpuq" + memo + small, b"cpuq" + memo + huge)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"it claims tensors of 40000000000 bytes, but has"):
        read_state_dict(path)


def test_a_pickle_that_only_misleads_the_measurement_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(1) * 3 + b"no pickle")
    with pytest.raises(ValueError, match="it is damaged"):
        read_state_dict(path)


def test_a_network_that_does_not_fit_is_not_built(tmp_path):
    """A last layer for ten million classes fits into the file, and its network into no memory."""
    path = tmp_path / "weights.pt"
    torch.save({"classifier.weight": torch.zeros(10**7, 2, dtype=torch.uint8)}, path)
    built = []

    def build() -> nn.Module:
        built.append(nn.Linear(1280, 10**7))
        return built[-1]

    with pytest.raises(ValueError, match=r"does not fit the network"):
        build_with(build, read_state_dict(path), path)
    assert [each.weight.device.type for each in built] == ["meta"]
    for name in ("efficientnet_lite0", "torchvision:mobilenet_v2", "torchvision:regnet_y_400mf"):
        with pytest.raises(ValueError, match=r"does not fit the network"):
            load_classifier(name, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 10_000_000  # KB


def test_published_weights_are_read_as_data(monkeypatch, tmp_path):
    """torchvision's own loading would run code that a file holds."""
    asked = {}

    def get_state_dict(self, *arguments, **options):
        asked.update(options)
        raise OSError("no network")

    from torchvision.models import ResNet18_Weights

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", get_state_dict)
    with pytest.raises(ConnectionError):
        load_classifier("torchvision:resnet18")
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True


def test_every_load_of_the_package_is_of_data_only():
    import re
    from pathlib import Path

    import captum_tgrad

    calls = []
    for path in Path(captum_tgrad.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls += re.findall(r"^(?! *#).*(?<!`)\btorch\.load\(.*", text, flags=re.MULTILINE)
        assert not re.search(
            r"pickle\.loads?\(|joblib|numpy\.load|np\.load|(?<!\.)\b(eval|exec)\(", text
        )
    assert calls
    assert all("weights_only=True" in call for call in calls), calls


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    network = nn.Linear(3, 2)
    path = tmp_path / "weights.safetensors"
    safetensors.save_file(network.state_dict(), path)
    loaded = read_state_dict(path)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match=r"weights\.safetensors was not loaded: it is damaged"):
        read_state_dict(path)


def test_safetensors_that_is_not_installed(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    code = (
        "import sys; sys.modules['safetensors'] = sys.modules['safetensors.torch'] = None\n"
        "from captum_tgrad.zoo.checkpoint import read_state_dict\n"
        "read_state_dict(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "weights.safetensors")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'pip install ".[safetensors]"' in done.stderr
