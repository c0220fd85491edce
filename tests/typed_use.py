"""What a user's type checker knows of the public names; ``test_typing.py`` asks mypy about it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from typing_extensions import assert_type

from captum_tgrad import (
    CamAttribution,
    Decomposition,
    FullGradAttribution,
    LayerTGradAttribution,
    TGradAttribution,
)
from captum_tgrad.metrics import (
    AverageDropResult,
    DeletionResult,
    EnergyInMaskResult,
    IncreaseInConfidenceResult,
    InsertionDeletionResult,
    InsertionResult,
    MassAccuracyResult,
    PointingGameResult,
    RankAccuracyResult,
    RoadResult,
    average_drop,
    deletion,
    energy_in_mask,
    increase_in_confidence,
    insertion,
    insertion_deletion,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
    road,
)
from captum_tgrad.sanity_checks import (
    EfficientMprtResult,
    RandomizationStep,
    SmoothMprtResult,
    cascading_randomization,
    efficient_mprt,
    smooth_mprt,
)

Tensors = tuple[Tensor, ...]


def maps_are_like_the_inputs(model: nn.Module, one: Tensor, two: tuple[Tensor, Tensor]) -> None:
    assert_type(TGradAttribution(model).attribute(one, target=0), Tensor)
    assert_type(TGradAttribution(model).attribute(two, [0, 1], sign="all"), Tensors)
    assert_type(FullGradAttribution(model).attribute(one), Tensor)
    assert_type(FullGradAttribution(model).attribute(two), Tensors)


def so_are_those_of_other_libraries(
    cam_class: Callable[..., Any], model: nn.Module, images: Tensor
) -> None:
    method = CamAttribution(model, cam_class)
    assert_type(method.attribute(images, target=0, eigen_smooth=True), Tensor)
    assert_type(method.attribute((images,)), Tensors)


def the_residual_comes_with_them(
    model: nn.Module, one: Tensor, two: tuple[Tensor, Tensor], asked: bool
) -> None:
    for method in (TGradAttribution(model), FullGradAttribution(model)):
        assert_type(method.attribute(one, return_convergence_delta=False), Tensor)
        assert_type(method.attribute(one, return_convergence_delta=True), tuple[Tensor, Tensor])
        assert_type(method.attribute(two, return_convergence_delta=True), tuple[Tensors, Tensor])
        assert_type(
            method.attribute(one, return_convergence_delta=asked),
            Tensor | tuple[Tensor, Tensor],
        )


def a_layer_may_return_several(model: nn.Module, inputs: Tensor) -> None:
    method = LayerTGradAttribution(model, model)
    assert_type(method.attribute(inputs, 1, attribute_to_layer_input=True), Tensor | Tensors)
    maps, residual = method.attribute(inputs, return_convergence_delta=True)
    assert_type(maps, Tensor | Tensors)
    assert_type(residual, Tensor)


def terms_have_names(model: nn.Module, inputs: Tensor) -> None:
    for method in (TGradAttribution(model), FullGradAttribution(model)):
        assert_type(method.decompose(inputs, target=0), Decomposition)
    layer = LayerTGradAttribution(model, model)
    assert_type(layer.decompose(inputs).biases[0].name, str)


def a_metric_of_one_method(model: nn.Module, inputs: Tensor, maps: Tensor) -> None:
    assert_type(insertion_deletion(model, inputs, maps, n_steps=8), InsertionDeletionResult)
    assert_type(insertion_deletion(model, (inputs, inputs), (maps, None)), InsertionDeletionResult)
    assert_type(insertion(model, inputs, maps, 0), InsertionResult)
    assert_type(deletion(forward_func=model, inputs=inputs, attributions=maps), DeletionResult)
    assert_type(average_drop(model, inputs, maps, score="logit"), AverageDropResult)
    assert_type(increase_in_confidence(model, inputs, maps), IncreaseInConfidenceResult)
    assert_type(insertion(model, (inputs, inputs), maps, channel_dim=(-1, None)), InsertionResult)


def a_metric_of_several(model: nn.Module, inputs: Tensor, maps: dict[str, Tensor]) -> None:
    assert_type(insertion_deletion(model, inputs, maps), dict[str, InsertionDeletionResult])
    assert_type(insertion(model, inputs, attributions=maps), dict[str, InsertionResult])
    assert_type(deletion(model, inputs, maps), dict[str, DeletionResult])
    assert_type(average_drop(model, inputs, maps), dict[str, AverageDropResult])
    assert_type(increase_in_confidence(model, inputs, maps), dict[str, IncreaseInConfidenceResult])


def localization(
    maps: Tensor, named: dict[str, Tensor], masks: Tensor, boxes: list[Tensor]
) -> None:
    assert_type(pointing_game(maps, masks, tolerance=0), PointingGameResult)
    assert_type(energy_in_mask(maps, boxes, size=(8, 8)), EnergyInMaskResult)
    assert_type(mass_accuracy(named, regions=masks), dict[str, MassAccuracyResult])
    assert_type(rank_accuracy(named, boxes, k=3), dict[str, RankAccuracyResult])


def imputed(model: nn.Module, inputs: Tensor, maps: Tensor, named: dict[str, Tensor]) -> None:
    assert_type(road(model, inputs, maps, percentages=[10, 50]), RoadResult)
    assert_type(road(model, inputs, named), dict[str, RoadResult])


def numbers_of_a_randomization(model: nn.Module, inputs: Tensor) -> None:
    assert_type(smooth_mprt(model, TGradAttribution, inputs, n_samples=2), SmoothMprtResult)
    assert_type(efficient_mprt(model, TGradAttribution, inputs, 1), EfficientMprtResult)


def steps_of_a_randomization(model: nn.Module, inputs: Tensor) -> None:
    for step in cascading_randomization(model, TGradAttribution, inputs, target=[0, 1]):
        assert_type(step, RandomizationStep)


def mistakes_are_found(model: nn.Module, inputs: Tensor) -> None:
    TGradAttribution(model).attribute(inputs, sign="both")  # type: ignore[call-overload]
    insertion(model, inputs, inputs, ties="neither")  # type: ignore[call-overload]
    pointing_game(inputs, inputs, k=3)  # type: ignore[call-overload]
    from captum_tgrad import NoSuchAttribution  # type: ignore[attr-defined]  # noqa: F401
