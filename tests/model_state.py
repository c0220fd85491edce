"""What a call must leave unchanged in a model and in torch."""

import torch
from torch.nn.modules import module as torch_module


def state_of(model):
    """The state of a model and of torch, as plain values to compare before and after a call."""
    parameters, modules = list(model.parameters()), dict(model.named_modules())
    return {
        "values": {name: tensor.tolist() for name, tensor in model.state_dict().items()},
        "tensors": [id(tensor) for tensor in (*parameters, *model.buffers())],
        "gradients": [None if each.grad is None else each.grad.tolist() for each in parameters],
        "gradient tensors": [id(each.grad) for each in parameters],
        "requires_grad": [each.requires_grad for each in parameters],
        "modules": modules,
        "training": [module.training for module in modules.values()],
        "hooks": [
            (
                dict(module._forward_hooks),
                dict(module._forward_pre_hooks),
                dict(module._backward_hooks),
            )
            for module in modules.values()
        ],
        "global hooks": (
            len(torch_module._global_forward_hooks),
            len(torch_module._global_forward_pre_hooks),
        ),
        "function modes": torch.overrides._get_current_function_mode_stack(),
        "gradient mode": torch.is_grad_enabled(),
        "random state": torch.get_rng_state().tolist(),
    }
