"""What every test shares."""

import torch

# The tests run in several processes: more threads than cores only get in each other's way.
torch.set_num_threads(1)
