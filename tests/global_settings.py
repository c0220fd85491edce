"""What torch keeps for the whole process or thread, and a call must leave as it is."""

import torch


def global_settings():
    """The settings of torch and the states of its generators, to compare before and after."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    found = (
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
        cuda.matmul.allow_tf32,
        cudnn.enabled,
        cudnn.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_rng_state().sum().item(),
    )
    if torch.cuda.is_available():
        found += (torch.cuda.current_device(), torch.cuda.get_rng_state().sum().item())
    return found
