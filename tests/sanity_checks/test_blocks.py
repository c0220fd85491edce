"""The parts of a network, of those that it uses."""

import torch
from torch import nn

from captum_tgrad.sanity_checks.layers import block_names


def test_lists_of_modules_are_opened_and_what_is_unused_is_left_out():
    body = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(nn.ReLU(), nn.Flatten()))
    model = nn.ModuleDict({"body": body, "heads": nn.ModuleList([nn.Linear(8, 2)])})
    model["spare"] = nn.Linear(2, 2)

    def forward():
        return model["heads"][0](model["body"](torch.rand(1, 3, 2, 2)))

    assert block_names(model, forward) == ["body.0", "heads.0"]


def test_a_block_is_one_part():
    class Block(nn.Sequential):
        pass

    model = nn.Sequential(Block(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    assert block_names(model, lambda: model(torch.ones(1, 2))) == ["0", "1"]
