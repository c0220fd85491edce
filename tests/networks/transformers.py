"""Attention, tokens, channels-last blocks and windows."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.building_blocks import Chain, Graph, conv, head
from tests.networks.operations import (
    Add,
    Function,
    MatrixMultiply,
    add_constant,
    channels_last,
    concatenate_constant,
    scale_by_constant,
)
from tests.networks.tiny_network import CLASSES, WIDTH, TinyNetwork


def _attention(m: nn.Module, x: Tensor) -> Tensor:
    similarity = m.compare(m.transpose(m.query(x)), m.key(x))
    weights = m.softmax(m.scale(similarity))
    x = m.attend(m.value(x), m.transpose(weights))
    return m.linear(m.flatten(m.pool(x)))


def _attention_twin(m: nn.Module, x: Tensor) -> Tensor:
    similarity = torch.einsum("ncl,ncm->nlm", m.query(x), m.key(x))
    weights = (similarity / 2).softmax(dim=-1)
    x = torch.bmm(m.value(x), weights.transpose(1, 2))
    return m.linear(x.mean(2))


def _vision_transformer(m: nn.Module, x: Tensor) -> Tensor:
    x = m.position(m.class_token(m.tokens(m.patches(x))))
    y = m.norm(x)
    x = m.add(x, m.attend(m.query(y), m.key(y), m.value(y)))
    return m.linear(m.first(x))


def _vision_transformer_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.patches(x).flatten(2).transpose(1, 2)
    x = torch.cat([x, m.class_token.constant.expand(len(x), -1, -1)], dim=1)
    x = x + m.position.constant
    y = m.norm(x)
    x = x + F.scaled_dot_product_attention(m.query(y), m.key(y), m.value(y))
    return m.linear(x[:, -1])


def _channels_last_block(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.norm(m.to_last(m.depthwise(x)))
    y = m.layer_scale(m.linear2(m.gelu(m.linear1(y))))
    return m.head(m.add(m.to_first(y), x))


def _channels_last_block_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.norm(m.depthwise(x).permute(0, 2, 3, 1))
    y = m.layer_scale.constant * m.linear2(F.gelu(m.linear1(y)))
    return m.head(y.permute(0, 3, 1, 2) + x)


def _to_windows(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    x = x.view(n, channels, 2, height // 2, width).transpose(1, 2)
    return x.reshape(n * 2, channels, height // 2, width)


def _from_windows(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    x = x.view(n // 2, 2, channels, height, width).transpose(1, 2)
    return x.reshape(n // 2, channels, height * 2, width)


NETWORKS = [
    TinyNetwork(
        "attention",
        lambda: Graph(
            _attention,
            query=nn.Conv1d(3, WIDTH, 1),
            key=nn.Conv1d(3, WIDTH, 1),
            value=nn.Conv1d(3, WIDTH, 3, padding=1),
            transpose=Function(lambda x: x.transpose(1, 2)),
            compare=MatrixMultiply(),
            scale=Function(lambda x: x / 2),
            softmax=nn.Softmax(dim=-1),
            attend=MatrixMultiply(),
            pool=nn.AdaptiveAvgPool1d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(WIDTH, CLASSES),
        ),
        # Logits of (query, key) have two places each, which their shape does not say.
        conventional=False,
        shapes=((2, 3, 7),),
        twin=_attention_twin,
    ),
    TinyNetwork(
        "vision_transformer",
        lambda: Graph(
            _vision_transformer,
            patches=conv(3, WIDTH, kernel_size=2, stride=2, padding=0),
            tokens=Function(lambda x: x.flatten(2).transpose(1, 2)),
            class_token=concatenate_constant((1, 1, WIDTH)),
            position=add_constant((1, 7, WIDTH)),
            norm=nn.LayerNorm(WIDTH),
            query=nn.Linear(WIDTH, WIDTH),
            key=nn.Linear(WIDTH, WIDTH),
            value=nn.Linear(WIDTH, WIDTH),
            attend=Function(F.scaled_dot_product_attention),
            add=Add(),
            first=Function(lambda x: x[:, -1]),
            linear=nn.Linear(WIDTH, CLASSES),
        ),
        twin=_vision_transformer_twin,
        conventional=False,
    ),
    TinyNetwork(
        "channels_last_block",
        lambda: Graph(
            _channels_last_block,
            stem=conv(),
            depthwise=conv(WIDTH, groups=WIDTH),
            to_last=channels_last(Function(lambda x: x.permute(0, 2, 3, 1))),
            norm=channels_last(nn.LayerNorm(WIDTH)),
            linear1=channels_last(nn.Linear(WIDTH, 6)),
            gelu=channels_last(nn.GELU()),
            linear2=channels_last(nn.Linear(6, WIDTH)),
            layer_scale=channels_last(scale_by_constant((WIDTH,))),
            to_first=Function(lambda x: x.permute(0, 3, 1, 2)),
            add=Add(),
            head=head(),
        ),
        twin=_channels_last_block_twin,
        conventional=False,
    ),
    TinyNetwork(
        "windows_in_the_batch_axis",
        lambda: Chain(
            stem=conv(),
            fold=Function(_to_windows),
            conv=conv(WIDTH),
            relu=nn.ReLU(),
            unfold=Function(_from_windows),
            head=head(),
        ),
        twin=lambda m, x: m.head(
            _from_windows(F.relu(m.conv(_to_windows(m.stem(x))), inplace=True))
        ),
        conventional=False,
    ),
]
