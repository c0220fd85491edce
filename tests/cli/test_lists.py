"""``methods`` and ``models`` list what there is; every help has examples; a terminal hears soon."""

import json
import os
import shlex
import subprocess
import sys
import time
from typing import get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from captum_tgrad.cli import list_commands
from captum_tgrad.cli.main import main
from captum_tgrad.cli.parser import command_line
from captum_tgrad.decomposition.maps.combine import Aggregation
from captum_tgrad.evaluation import METHODS
from captum_tgrad.zoo import classifier_names, load_classifier, sample_image
from captum_tgrad.zoo.load import listed_models

COMMANDS = ("explain", "compare", "evaluate", "sanity-check", "methods", "models")


def test_methods_have_cost_source_and_extra(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    first = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert first == ["name", *METHODS]
    assert any("50 forward and backward passes" in line for line in lines)
    assert any("Sundararajan et al. 2017" in line for line in lines)
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == [*METHODS]
    assert all(each["cost"] and each["source"] and each["installed"] for each in found)
    assert {each["name"] for each in found if each["extra"] == "cam"} == {
        "grad_cam_plus_plus", "eigen_cam", "score_cam", "x_grad_cam"
    }  # fmt: skip


def test_a_missing_extra_shows_with_the_way_to_install_it(capsys, monkeypatch):
    monkeypatch.setattr(list_commands, "is_installed", lambda *modules: False)
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("not installed") == 4
    assert printed.endswith('pip install ".[cam]"\n')


def test_models_are_those_that_can_be_loaded(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[1:]] == classifier_names()
    assert main(["models", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == classifier_names()


@pytest.mark.parametrize("model", listed_models()[:4], ids=lambda model: model["name"])
def test_sizes_and_costs_are_those_of_the_networks(model):
    classifier = load_classifier(model["name"])
    assert sum(each.numel() for each in classifier.model.parameters()) == model["parameters"]
    inputs = classifier.preprocess(sample_image())[None]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier.model(inputs)
    assert model["multiply_adds"] == pytest.approx(counter.get_total_flops() / 2, rel=5e-3)
    assert model["installed"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_ends_with_two_examples_that_can_be_parsed(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    _, examples = text.split("\nexamples:\n")
    lines = examples.splitlines()
    assert len(lines) == 2
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "captum-tgrad"
        assert command_line().parse_args(arguments).command == command
    assert max(map(len, lines)) <= 100


def test_aggregations_are_those_of_the_attribution():
    parse = command_line().parse_args
    assert [parse(["explain", "--aggregation", name]).aggregation for name in get_args(Aggregation)]


def test_the_parser_loads_no_torch():
    code = "import sys, captum_tgrad.cli.main as m; m.command_line(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_terminal_has_a_sign_of_life_before_torch_is_loaded():
    script = (
        "import sys, captum_tgrad.cli.main as m\n"
        "m.run = lambda options: None\n"
        "class Stop(Exception): pass\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch': raise Stop\n"
        "sys.meta_path.insert(0, Finder())\n"
        "m.main(['evaluate', '--out', 'out'])\n"
    )
    reader, writer = os.openpty()
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", script], stderr=writer, stdout=writer)
    os.close(writer)
    first = os.read(reader, 1000).decode()
    assert first.startswith("captum-tgrad evaluate: loading")
    process.wait(60)
    os.close(reader)
    assert time.monotonic() - begun < 60
