"""Operations as modules: those that torch has no module for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Multiply(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


class Divide(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x / y


class MatrixMultiply(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y


class Concatenate(nn.Module):
    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, dim=self.dim)


class Detach(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Function(nn.Module):
    """A parameterless operation, for those that torch has no module for."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)


class WithConstant(nn.Module):
    """``function(x, constant)``; the constant is a parameter or a buffer."""

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        shape: tuple[int, ...],
        trainable: bool = True,
    ) -> None:
        super().__init__()
        self.function = function
        constant = torch.zeros(shape)
        if trainable:
            self.constant = nn.Parameter(constant)
        else:
            self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.constant)


def add_constant(shape: tuple[int, ...], trainable: bool = True) -> WithConstant:
    return WithConstant(lambda x, constant: x + constant, shape, trainable)


def scale_by_constant(shape: tuple[int, ...]) -> WithConstant:
    return WithConstant(lambda x, constant: x * constant, shape)


def concatenate_constant(shape: tuple[int, ...]) -> WithConstant:
    def concatenate(x: Tensor, constant: Tensor) -> Tensor:
        return torch.cat([x, constant.expand(len(x), *constant.shape[1:])], dim=1)

    return WithConstant(concatenate, shape)


def channels_last(module: nn.Module) -> nn.Module:
    """Tell the reference that the channels of the output are its last axis."""
    module.channel_axis = -1
    return module
