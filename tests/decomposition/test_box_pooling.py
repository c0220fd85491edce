"""Pooling inside of boxes has the map of the crop that it equals."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align, roi_pool

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_complete, assert_same_maps

torch.manual_seed(0)
BODY = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2)).double()
HEAD = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.SiLU()).double()
IMAGES = torch.rand(2, 3, 32, 24).double()
WEIGHTS = torch.rand(5, 8, 6).double()


def _read(h):
    return (HEAD(h) * WEIGHTS[:, : h.shape[2], : h.shape[3]]).sum((1, 2, 3))


def _terms(function, images=IMAGES):
    return TGradAttribution(function).decompose(images)


def _boxes(*corners):
    """One box for each image, in pixels of the images."""
    return torch.tensor([[number, *box] for number, box in enumerate(corners)]).double()


@pytest.mark.parametrize("pooling", [1, 2])
def test_a_box_of_whole_pixels_is_a_crop(pooling):
    # 6 x 8 cells of two pixels each, from (x, y) = (4, 8) on; torchvision averages in the middles.
    boxes = _boxes((4, 8, 16, 24), (4, 8, 16, 24))

    def pooled(images):
        size = (8 // pooling, 6 // pooling)
        return _read(roi_align(BODY(images), boxes, size, 0.5, pooling, aligned=True))

    def cropped(images):
        return _read(F.avg_pool2d(BODY(images)[:, :, 4:12, 2:8], pooling))

    found = assert_same_maps(pooled, cropped, IMAGES, aggregations=["paper"])
    assert not any(term.lost_at for term in found)


@pytest.mark.parametrize("pooling", [1, 2])
def test_the_largest_of_a_box_is_that_of_a_crop(pooling):
    boxes = _boxes((4, 8, 14, 22), (4, 8, 13.2, 22.8))  # up to pixel (7, 11) of the features

    def pooled(images):
        return _read(roi_pool(BODY(images), boxes, (8 // pooling, 6 // pooling), 0.5))

    def cropped(images):
        return _read(F.max_pool2d(BODY(images)[:, :, 4:12, 2:8], pooling))

    assert_same_maps(pooled, cropped, IMAGES, aggregations=["paper"])


def test_each_image_has_its_box():
    boxes = _boxes((0, 0, 12, 16), (12, 16, 24, 32))

    def pooled(images):
        # Biases of the head alone: what is outside of the box gets nothing.
        return _read(roi_align(BODY(images), boxes, (8, 6), 0.5, 1, aligned=True))

    found = _terms(pooled)
    deep = found.biases[-1].maps[0]
    rows, columns = (cells[:, 0] for cells in deep.grid.axes)
    inside = [(rows < 15.5, columns < 11.5), (rows > 15.5, columns > 11.5)]
    for sample, (own_rows, own_columns) in enumerate(inside):
        evidence = (deep.positive + deep.negative)[sample, 0]
        kept = evidence * own_rows[:, None] * own_columns
        assert float(evidence.sum()) > 0
        torch.testing.assert_close(kept, evidence)


def test_positions_between_pixels_are_where_torchvision_reads():
    # The middle of what a cell reads, from torchvision itself: it pools the columns' own numbers.
    numbers = torch.arange(24.0).double().expand(1, 3, 32, 24)
    for aligned in (True, False):
        box = torch.tensor([[0, 3.3, 5.0, 17.9, 25.0]]).double()

        def pooled(images, box=box, aligned=aligned):
            return F.silu(roi_align(images, box, (4, 5), 1.0, 8, aligned=aligned)).sum((1, 2, 3))

        expected = roi_align(numbers, box, (4, 5), 1.0, 8, aligned=aligned)[0, 0, 0]
        grid = _terms(pooled, IMAGES[:1]).biases[0].maps[0].grid
        torch.testing.assert_close(grid.axes[1][:, 0], expected)


def test_many_boxes_have_no_place_and_say_so():
    boxes = torch.tensor([[0.0, 1, 1, 9, 9]]).double().repeat(40, 1)

    def pooled(images):
        return F.silu(roi_align(images, boxes, 3)).mean(0, keepdim=True).sum((1, 2, 3))

    with pytest.warns(UserWarning, match="'roi_align' in forward_func"):
        _terms(pooled, IMAGES[:1])


@pytest.mark.parametrize("pool", [roi_align, roi_pool])
def test_a_level_of_a_pyramid_without_boxes(pool):
    """In a whole detector, the boxes depend on the image."""

    def detected(images):
        features = BODY(images)
        boxes = features.mean((1, 2, 3))[:, None] * torch.arange(5).double()
        return features.sum((1, 2, 3)) + pool(features, boxes[:0], (2, 2)).sum()

    found = _terms(detected, IMAGES[:1])
    torch.testing.assert_close(found.output, BODY(IMAGES[:1]).sum((1, 2, 3)).detach())
    assert_complete(found)


def test_boxes_of_a_padded_crop_have_the_map_of_a_pooling():
    boxes = _boxes((0, 0, 24, 32), (0, 0, 24, 32))

    def network(pool):
        return lambda x: pool(F.pad(BODY(x)[..., 2:8], (2, 4))).tanh().sum((2, 3)).tanh().sum(1)

    assert_same_maps(
        network(lambda h: roi_align(h, boxes, (8, 6), 0.5, 2, aligned=True)),
        network(lambda h: F.avg_pool2d(h, 2)),
        IMAGES,
        aggregations=["paper"],
    )
