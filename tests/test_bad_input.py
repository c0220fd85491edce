"""Whatever is wrong with what is given, the message names it, and says what to do about it."""

import shlex
from dataclasses import replace

import pytest
import pytorch_grad_cam
import torch
from matplotlib import pyplot
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_tensor

from captum_tgrad import (
    CamAttribution,
    FullGradAttribution,
    LayerTGradAttribution,
    TGradAttribution,
)
from captum_tgrad.cli.main import main
from captum_tgrad.evaluation import Method, compare, evaluate, get_method, images_in, read_methods
from captum_tgrad.explanation import explain
from captum_tgrad.metrics import average_drop, blur, insertion_deletion, pointing_game, road
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.visualization import Report, curves_figure, explanation_figure, methods_figure
from captum_tgrad.zoo import (
    Classifier,
    load_classifier,
    load_image,
    resolve_target,
    sample_image,
)
from tests.evaluation.networks import classifier, images, network

X, A = images(2), torch.rand(2, 1, 16, 16)
BOXES = torch.tensor([[1, 2, 5, 6], [3, 1, 9, 8]])
NAN = float("nan")


def _attribute(**options):
    TGradAttribution(network()).attribute(**{"inputs": X, "target": 0, **options})


def _score(attributions=A, **options):
    insertion_deletion(network(), X, attributions, **{"target": 0, "n_steps": 2, **options})


def _evaluate(dataset=X, methods=("random",), model=None, **options):
    evaluate(model or network(), dataset, methods, **{"n_steps": 2, **options})


class _Asserting(nn.Module):
    """Checks its input as the batch norm of timm does."""

    def forward(self, images):
        assert images.dim() == 4, f"expected 4D input (got {images.dim()}D input)"
        return images.sum((1, 2, 3))


def _explain(preprocess):
    pictures = [Image.new("RGB", (8, 8)), sample_image()]
    explain(replace(classifier(), preprocess=preprocess), pictures)


def _cascade(**options):
    given = {"inputs": X, "target": torch.tensor([0, 0]), **options}
    list(cascading_randomization(network(), TGradAttribution, **given))


def _draw(image=X[0], attribution=A[0], **options):
    explanation_figure(image, attribution, **options)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """What the calls below name, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "empty"):
        (tmp_path / name).mkdir()
    for name in ("x", "z"):
        Image.new("RGB", (8, 8)).save(f"folder/{name}.png")
    for name, text in {
        "text": "x",
        "gaps.txt": "a\n\nb\n",
        "dog.csv": "x.png,dog\n",
        "other.csv": "y.png,1\n",
        "short.csv": "x.png\n",
        "twice.csv": "x.png,1\nx.png,2\n",
        "table.toml": "x = 1",
        "random.toml": '[random]\nclass = "captum.attr.Saliency"',
        "boxes.csv": "x.png,1 1 5\n",
        "later.csv": "z.png,1 1 5 5\n",
        "foreign.toml": '[x]\nclass = "os.path.Path"',
    }.items():
        (tmp_path / name).write_text(text)
    torch.save({"fc.weight": torch.ones(2, 2, dtype=torch.complex64)}, "complex.pt")
    torch.save({"fc.weight": torch.ones(2, 2)}, "other.pt")


CALLS = [
    # The call, what the message names, and the way out that it says.
    (lambda: _attribute(inputs=list(X)), "inputs", "torch.stack"),
    (lambda: _attribute(inputs=X.int()), "inputs", "inputs.float()"),
    (lambda: _attribute(inputs=X.byte()), "inputs", "Preprocess images as in training"),
    (lambda: _attribute(inputs=X * NAN), "inputs", "torch.nan_to_num"),
    (lambda: _attribute(inputs=X.to(torch.complex64)), "inputs", "real floating-point"),
    (
        lambda: TGradAttribution(nn.Linear(4, 3)).attribute(torch.rand(2, 5, 4), target=1),
        "target 1",
        "2 indices as target, or reduce the output",
    ),
    (lambda: _attribute(target=1.5), "target", "an int"),
    (lambda: _attribute(target=torch.tensor([0.0, 1.0])), "target", "target.long()"),
    (lambda: TGradAttribution("model.pth"), "forward_func", "load_state_dict"),
    (lambda: TGradAttribution(network().state_dict()), "forward_func", "load_state_dict"),
    (lambda: _attribute(target=[0, 1, 2]), "target", "one target per sample"),
    (lambda: _attribute(target=torch.zeros(2, 1).long()), "target", "target.squeeze(1)"),
    (lambda: _attribute(target=torch.eye(4)[:2].long()), "target", "target.argmax(1)"),
    (lambda: _attribute(inputs=X.numpy()), "inputs", "a NumPy array: convert it"),
    (lambda: _attribute(sign="pos"), "sign", "'positive', 'negative' or 'all'"),
    (lambda: _attribute(channel_dim=7), "channel_dim", "a dimension from 1 to 3"),
    (
        lambda: _attribute(inputs=X[:, 0, 0, 0], channel_dim=-1),
        "channel_dim",
        "the batch. Pass None if",
    ),
    (lambda: _attribute(baselines=0), "'baselines'", "leave it out"),
    (lambda: TGradAttribution("resnet").attribute(X), "forward_func", "a module"),
    (lambda: TGradAttribution(nn.ReLU), "forward_func is the class ReLU", "an instance"),
    (
        lambda: TGradAttribution(nn.BatchNorm2d(3).eval()).attribute(X[0], target=0),
        "inputs has shape (3, 16, 16)",
        "pass inputs.unsqueeze(0)",
    ),
    (
        lambda: TGradAttribution(_Asserting()).attribute(X[0]),
        "inputs has shape (3, 16, 16)",
        "pass inputs.unsqueeze(0)",
    ),
    (
        lambda: FullGradAttribution(network().train()).attribute(X, target=0),
        "forward_func",
        "model.eval()",
    ),
    (lambda: LayerTGradAttribution(network(), "0").attribute(X), "layer", "torch.nn.Module"),
    (
        lambda: LayerTGradAttribution(network(), nn.ReLU()).attribute(X, target=0),
        "layer (ReLU)",
        "a module of the model",
    ),
    (lambda: CamAttribution(network(), nn.ReLU), "cam_class ReLU", "captum.attr.GuidedBackprop"),
    (
        lambda: CamAttribution(network(), pytorch_grad_cam.GradCAM(network(), [])),
        "cam_class must be a class",
        "such as GradCAMPlusPlus",
    ),
    (
        lambda: CamAttribution(network(), pytorch_grad_cam.GradCAM, [nn.ReLU()]).attribute(X),
        "target_layers[0]",
        "from the model itself",
    ),
    (lambda: _score(torch.rand(2, 1, 5, 7, 3)), "attributions", "Pass (2, 3, 16, 16)"),
    (lambda: _score(torch.rand(2, 3, 16, 16, 4)), "attributions", "attributions.sum(-1)"),
    (lambda: _score(A[:1]), "attributions", "one map for each"),
    (lambda: _score(A * NAN), "attributions", "nan_policy='omit'"),
    (lambda: _score({}), "attributions", "at least one method"),
    (lambda: _score([A, A]), "attributions", "For several methods, pass a dict"),
    (lambda: _score(X.movedim(1, -1)), "attributions", "attributions.movedim(-1, 1)"),
    (lambda: _score(baselines=X[0]), "baselines", "baselines.unsqueeze(0)"),
    (lambda: _score(baselines=blur), "blur", "pass baselines=blur()"),
    (lambda: road(network(), X[..., None], A[..., None]), "inputs", "use insertion_deletion"),
    (lambda: _score(baselines=X.numpy()), "baselines", "a NumPy array: convert it"),
    (lambda: insertion_deletion(nn.ReLU, X, A), "forward_func is the class ReLU", "an instance"),
    (lambda: average_drop(network(), X.long(), A), "inputs", "for token IDs their embeddings"),
    (lambda: _evaluate(methods="t_grad"), "methods", "pass ['t_grad']"),
    (lambda: _evaluate(methods=["tgrad"]), "'tgrad'", "did you mean t_grad"),
    (
        lambda: Method("a", "A", "", lambda *_: lambda x, _: x.numpy()).build(network())(X, [0, 0]),
        "attributions",
        "a NumPy array: convert it",
    ),
    (lambda: _evaluate(dataset=None), "dataset", "a list of tensors"),
    (lambda: _evaluate(dataset=[]), "dataset", "pass at least one image"),
    (lambda: _evaluate(dataset=[Image.new("RGB", (8, 8))]), "dataset[0]", "ToTensor"),
    (lambda: _evaluate(dataset=[(X[0], "cat")]), "dataset[0]", "Pass an int"),
    (lambda: _evaluate(dataset=[(9 * X[0]).byte()]), "dataset", "must be a float image"),
    (lambda: _evaluate(dataset=[(9 * X[0]).byte()]), "dataset[0]", "image.float() / 255"),
    (lambda: _evaluate(dataset=[X]), "dataset[0]", "list(batch)"),
    (lambda: _evaluate(dataset=[X[0, 0]]), "dataset[0]", "image[None]"),
    (lambda: _evaluate(dataset=[X[0, 0, 0]]), "dataset[0]", "use the metrics"),
    (lambda: _evaluate(dataset=[X[0].numpy()]), "dataset[0]", "a NumPy array: convert it"),
    (lambda: _evaluate(regions={"0": BOXES.numpy()}), "regions['0']", "a NumPy array: convert it"),
    (lambda: _evaluate(out=""), "out", "pass a path"),
    (lambda: _evaluate(out=3), "out", "the path of a folder"),
    (lambda: _evaluate(out="text"), "out text", "use a folder"),
    (lambda: _evaluate(resume=True), "resume", "pass it as out"),
    (lambda: _evaluate(limit=0), "limit", "a positive integer"),
    (lambda: _evaluate(budget="30m"), "budget", "a number of seconds"),
    (lambda: _evaluate(target="best"), "target", "'predicted' or 'label'"),
    (lambda: _evaluate(black="black"), "black", "a number or a tensor"),
    (lambda: _evaluate(model=network().train()), "model", "model.eval()"),
    (lambda: get_method("gradcam"), "'gradcam'", "did you mean grad_cam"),
    (lambda: read_methods("none.toml"), "none.toml", "pass a TOML file"),
    (lambda: read_methods("table.toml"), "[x] of table.toml", "must be a table"),
    (lambda: read_methods("foreign.toml"), "foreign.toml", "--allow-imports os"),
    (lambda: images_in("none", classifier()), "none", "pass a folder"),
    (lambda: images_in("folder", classifier(), "dog.csv"), "dog.csv, line 1", "from 0 to 3"),
    (lambda: images_in("folder", classifier(), "other.csv"), "other.csv", "write paths"),
    (lambda: images_in("empty", classifier()), "empty", "files that end in .bmp"),
    (lambda: images_in("folder", classifier(), "folder/x.png"), "x.png is not a CSV", "UTF-8"),
    (lambda: images_in("folder", classifier(), "short.csv"), "short.csv", "write an image and"),
    (lambda: images_in("folder", classifier(), "twice.csv"), "twice.csv, line 2", "keep one"),
    (lambda: load_image("folder"), "folder", "pass an image in it"),
    (lambda: load_image("none.png"), "none.png", "pass the path of an image"),
    (lambda: load_image("text"), "text", "convert it"),
    (lambda: load_image(3), "path", "the path of an image"),
    (lambda: load_classifier("resnet50"), "'resnet50'", "did you mean torchvision:resnet50"),
    (lambda: load_classifier(network()), "name", "construct captum_tgrad.zoo.Classifier"),
    (lambda: load_classifier(weights={}), "weights", "torch.save(state_dict"),
    (lambda: load_classifier(weights="none.pt"), "none.pt", "a file written by torch.save"),
    (lambda: load_classifier(weights="text"), "text", "torch.save(model.state_dict()"),
    (lambda: load_classifier(weights="complex.pt"), "fc.weight is complex", "torch.save(model."),
    (lambda: load_classifier(weights="other.pt"), "other.pt", "use the model"),
    (lambda: load_classifier(class_names=["a"]), "class name", "pass one name for each"),
    (lambda: load_classifier(resize="fit"), "resize", "'crop', 'squash' or 'pad'"),
    (lambda: resolve_target("zebra", ["cat"]), "'zebra'", "a number from 0 to 0"),
    (lambda: explain(network(), [sample_image()]), "classifier must be", "use TGradAttribution"),
    (
        lambda: Classifier("one", nn.Linear(4, 1), ("yes",), torch.tensor, sample_image),
        "class_names",
        "torch.cat([-z, z], 1) / 2",
    ),
    (lambda: replace(classifier(), class_names="ab"), "class_names", "a sequence of names"),
    (lambda: _explain(lambda _: X), "preprocess", "leave out the batch dimension"),
    (lambda: _explain(lambda _: X[0].numpy()), "preprocess", "a NumPy array: convert it"),
    (lambda: _explain(to_tensor), "preprocess", "one height and width"),
    (lambda: compare(network(), sample_image()), "classifier must be", "load_classifier"),
    (lambda: images_in("folder", network()), "classifier must be", "load_classifier"),
    (lambda: explain(classifier(), []), "images", "pass at least one"),
    (lambda: explain(classifier(), Image.new("RGB", (8, 8))), "images", "pass [image]"),
    (lambda: explain(classifier(), X), "images", "as from load_image"),
    (lambda: _cascade(layers=["nope"]), "layers contains 'nope'", "its modules are 0, 1"),
    (lambda: _cascade(mode="x"), "mode", "'cascading', 'bottom_up'"),
    (lambda: _cascade(target=torch.zeros(3).long()), "target", "one target per sample"),
    (lambda: _draw(list(X)), "images must be a tensor", "got Tensor in a list: pass torch.stack"),
    (lambda: _draw("a.png"), "images", "captum_tgrad.zoo.load_image"),
    (
        lambda: _draw(attribution=A[0].numpy()),
        "attribution",
        "NumPy array: convert it with",
    ),
    (lambda: _draw(attribution=A[0] * NAN), "attribution", "torch.nan_to_num"),
    (lambda: _draw(attribution=torch.rand(99, 99)), "attribution", "pass the part of the image"),
    (lambda: _draw(mean=[0.5]), "std is missing", "pass both"),
    (lambda: _draw(probability=95), "probability", "from 0 to 1, got 95"),
    (lambda: _draw(probability="high"), "probability", "a number"),
    (lambda: _draw(residual="small"), "residual", "a number"),
    (lambda: _draw(seen=(0, 0, 99, 99)), "seen", "within the image"),
    (lambda: _draw(attribution=[[1.0]], seen=(0, 0, 9, 9)), "attribution", "torch.as_tensor"),
    (lambda: _draw(X[0].movedim(0, -1)), "images", "images.movedim(-1, -3)"),
    (lambda: _draw(X[:1, :, None]), "images", "images[:, :, index]"),
    (lambda: _draw(attribution=A[:1, :, None]), "attribution", "attribution[:, :, index]"),
    (lambda: _draw(boxes=BOXES.numpy()), "boxes", "got a NumPy array: convert it"),
    (lambda: _draw(boxes=[1, 1, 5, 5]), "boxes", "[[x0, y0, x1, y1]]"),
    (lambda: pointing_game(A[:1], [1, 1, 5, 5]), "regions", "[[x0, y0, x1, y1]]"),
    (lambda: pointing_game(A, BOXES / 16), "regions[0]", "multiply relative coordinates"),
    (lambda: pointing_game(A, BOXES.flip(1)), "regions[0]", "not width and height"),
    (lambda: pointing_game(A.numpy(), BOXES), "attributions", "a NumPy array: convert it"),
    (lambda: methods_figure(X[0], {}), "attributions", "pass at least one"),
    (lambda: curves_figure({}), "results", "pass at least one"),
    (lambda: Report("a").figure(pyplot, "a line"), "figure", "a matplotlib Figure, got module"),
    (lambda: Report("a").table(["a"], [["x", "y"]]), "row 0", "pass one per column"),
]


@pytest.mark.usefixtures("files")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("call", "named", "way_out"), CALLS, ids=[named for _, named, _ in CALLS])
def test_a_call(call, named, way_out):
    # A data set of which no image is used warns, with the reason: the rest of it may be good.
    with pytest.raises((ValueError, TypeError, FileNotFoundError, UserWarning)) as raised:
        call()
    message = str(raised.value)
    assert named in message
    assert way_out in message
    assert not message.endswith("..")


COMMANDS = [
    ("explain none.png", "none.png", "pass the path of an image"),
    ("explain text", "text", "convert it"),
    ("explain --model x", "'x'", "torchvision:NAME"),
    ("explain --model ''", "''", "torchvision:NAME"),
    ("explain --layers x.png", "'x.png'", "write images before --layers"),
    ("explain --layers 0", "'0'", "the number of maps to draw, or --layers alone for 9"),
    ("explain --target qwertz", "'qwertz'", "a number from 0 to 999"),
    ("explain --target ''", "''", "a number from 0 to 999"),
    ("explain --device gpu", "'gpu'", "try cpu"),
    ("explain --device mps:9", "'mps:9'", "try cpu"),
    ("explain --batch-size -1", "--batch-size", "a positive integer"),
    ("explain --resize fit", "--resize", "'crop'"),
    ("explain --class-names gaps.txt", "gaps.txt", "fill it or remove it"),
    ("explain --weights text", "text", "torch.save("),
    ("explain --out text", "--out text", "use a folder"),
    ("explain --out ''", "--out", "pass the name of a file or folder"),
    ("compare --methods ''", "--methods", "pass names separated by commas"),
    ("compare --methods gradcam", "'gradcam'", "did you mean grad_cam"),
    ("compare --config text", "text", "TOML"),
    ("compare --config foreign.toml", "foreign.toml", "--allow-imports os"),
    ("compare --config random.toml", "[random] of random.toml", "choose another"),
    ("compare --allow-imports x", "--allow-imports", "pass --config FILE"),
    ("compare --config table.toml --allow-imports ''", "''", "import NAME"),
    ("compare --n-steps 0", "--n-steps", "a positive integer"),
    ("sanity-check --method x", "'x'", "choose from"),
    ("sanity-check --layers ,", "--layers", "pass names separated by commas"),
    ("sanity-check --columns 1", "--columns", "2 or more"),
    ("sanity-check --seed -5", "--seed", "an integer of 0 or more"),
    ("evaluate folder --out o --budget soon", "'soon'", "90s, 30m or 2h"),
    ("evaluate none --out o", "none", "pass a folder"),
    ("evaluate folder --out o --boxes boxes.csv", "boxes.csv, line 1", "x0 y0 x1 y1"),
    ("evaluate folder --out o --limit 1 --boxes later.csv", "--limit 1", "pass a larger number"),
    ("evaluate --out o --labels dog.csv", "--labels", "needs a folder"),
    ("evaluate folder --out o --labels dog.csv", "--labels", "add --target label"),
    ("evaluate folder --out o --target label --labels none.csv", "none.csv", "pass a CSV file"),
    ("evaluate folder --out o --target label", "--target label", "pass --labels CSV"),
]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("command", "named", "way_out"), COMMANDS, ids=[c for c, _, _ in COMMANDS])
def test_a_command(command, named, way_out, capsys):
    status: object
    try:
        status = main(shlex.split(command))
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    line = capsys.readouterr().err.splitlines()[0]
    assert "error: " in line
    assert named in line
    assert way_out in line
