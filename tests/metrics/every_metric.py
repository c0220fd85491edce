"""All metrics, from the table that a metric is entered in: a new one is in these tests at once."""

import inspect

import torch

from captum_tgrad import metrics
from captum_tgrad.metrics.registry import NUMBERS

METRICS = [
    getattr(metrics, name)
    for name in dict.fromkeys(
        [*(number.function for number in NUMBERS.values()), "insertion", "deletion"]
    )
]
CURVES = [metric for metric in METRICS if "n_steps" in inspect.signature(metric).parameters]
MASKED = [metric for metric in METRICS if metric not in CURVES]


def fields_of(metric):
    """The fields of a metric's result that are in the table."""
    fields = [number.field for number in NUMBERS.values() if number.function == metric.__name__]
    return fields or [metric.__name__]  # one of the curves alone


def tensors_of(result):
    """The tensors of a result, in the order of its fields."""
    return [value for value in vars(result).values() if isinstance(value, torch.Tensor)]


def numbers_of(model, inputs, maps, n_steps=10, **options):
    """For each number of the table, that of every sample; by method if the maps are."""
    found = {}
    for name, number in NUMBERS.items():
        metric = getattr(metrics, number.function)
        own = {"n_steps": n_steps} if metric in CURVES else {}
        result = metric(model, inputs, maps, **own, **options)
        if isinstance(maps, dict):
            found[name] = {key: getattr(each, number.field) for key, each in result.items()}
        else:
            found[name] = getattr(result, number.field)
    return found
