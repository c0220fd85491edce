"""A small evaluation as a process of its own, to be killed or started by torchrun.

Arguments: the folder for the results, how many images, and how many seconds each takes.
"""

import sys
import time
import warnings

import torch

from captum_tgrad.evaluation import Method, evaluate
from captum_tgrad.evaluation.distributed import joined_processes
from tests.evaluation.networks import images, network


def _slowly(seconds):
    def compute(inputs, target):
        time.sleep(seconds)
        return inputs

    return Method("slow", "Slow", "", lambda model, black: compute)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    out, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    names = ["t_grad", "smooth_grad", "random", _slowly(seconds)]
    with joined_processes(torch.device("cpu")):
        evaluate(network(), images(count), names, out, resume=True, n_steps=8, batch_size=2)
