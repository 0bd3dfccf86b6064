from typing import get_args

import pytest
import torch
from torch.nn.functional import affine_grid

from ctcml.augment import Jitter, Kind, _grid, augment, moved_by_index, moved_by_strides

KINDS: tuple[Kind, ...] = get_args(Kind)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_with_a_mark(n: int = 64) -> torch.Tensor:
    """Thumbnails with an L in the middle, different in each plane: it has no symmetry of its own."""
    batch = torch.zeros(n, 3, 80, 80, dtype=torch.uint8)
    for plane in range(3):
        batch[:, plane, 30:50, 38] = 100 + plane
        batch[:, plane, 50, 38:46] = 200 + plane
    return batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", ["uint8", "float"])
def test_shape_and_type_are_kept(kind: Kind, scale: str) -> None:
    batch = batch_with_a_mark() if scale == "uint8" else batch_with_a_mark() / 255
    out = augment(batch, kind=kind, generator=dice())
    assert (out.shape, out.dtype) == (batch.shape, batch.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_dice_give_the_same_batch_and_the_original_is_untouched(kind: Kind) -> None:
    batch = batch_with_a_mark()
    first, second = (augment(batch, kind=kind, generator=dice(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(batch, batch_with_a_mark())


def test_without_augmentation_nothing_changes() -> None:
    assert torch.equal(augment(batch_with_a_mark(), kind="none", generator=dice()), batch_with_a_mark())


def test_mild_augmentation_moves_pixels_and_never_mixes_their_values() -> None:
    before, after = batch_with_a_mark(), augment(batch_with_a_mark(), kind="mild", generator=dice())
    for one, other in zip(before.flatten(2), after.flatten(2), strict=True):
        assert torch.equal(one.sort(1).values, other.sort(1).values)


def test_mild_augmentation_shows_all_eight_poses_and_all_shifts_up_to_four_pixels() -> None:
    dot = torch.zeros(4000, 3, 80, 80, dtype=torch.uint8)
    dot[:, :, 30, 36] = 255  # in a quarter of the image that is its own: each pose puts it elsewhere
    places = torch.nonzero(augment(dot, kind="mild", generator=dice())[:, 0])[:, 1:]
    poses = [(y, x) for y in (30, 49) for x in (36, 43)] + [(y, x) for y in (36, 43) for x in (30, 49)]
    reached = {(y + dy, x + dx) for y, x in poses for dy in range(-4, 5) for dx in range(-4, 5)}
    found = {(int(y), int(x)) for y, x in places}
    assert found <= reached
    assert len(found) > 0.95 * len(reached)


@pytest.mark.parametrize("kind", ["mild", "paper"])
def test_every_image_of_a_batch_draws_its_own_dice(kind: Kind) -> None:
    out = augment(batch_with_a_mark(), kind=kind, generator=dice())
    assert len({image.numpy().tobytes() for image in out}) > 50


@pytest.mark.parametrize("kind", KINDS)
def test_the_three_planes_of_an_image_move_together(kind: Kind) -> None:
    out = augment(batch_with_a_mark(), kind=kind, generator=dice()).int()
    lit = out[:, 0] >= 100
    assert bool((out[:, 1] - out[:, 0])[lit].sub(1).abs().le(1).all())
    assert bool((out[:, 2] - out[:, 0])[lit].sub(2).abs().le(1).all())


def test_the_papers_augmentation_stays_within_its_shift_and_zoom() -> None:
    square = torch.zeros(500, 3, 80, 80)
    square[:, :, 30:50, 30:50] = 1
    out = augment(square, kind="paper", generator=dice())[:, 0]
    area = out.sum((1, 2)) / 400
    across = (out * torch.arange(80)).sum((1, 2)) / out.sum((1, 2)) - 39.5
    assert 1 / 1.2**2 - 0.03 < float(area.min()) < 0.8
    assert 1.3 < float(area.max()) < 1 / 0.8**2 + 0.03
    # A shift of 15 % is 12 pixels a side; it is drawn before the zoom of 0.8 enlarges it and the rotation mixes both.
    assert 10 < float(across.abs().max()) < 12 * 2**0.5 / 0.8


def test_the_mild_augmentation_of_a_gpu_is_that_of_the_cpu_to_the_bit() -> None:
    batch = torch.randint(0, 256, (200, 3, 80, 80), dtype=torch.uint8, generator=dice())
    drawn = torch.stack([torch.randint(side, (200,), generator=dice(side)) for side in (4, 2, 9, 9)], 1)
    assert torch.equal(moved_by_index(batch, drawn), moved_by_strides(batch, drawn))


def stained(n: int = 16) -> torch.Tensor:
    """Thumbnails of 40 x 30 pixels in black padding, along the asinh curve."""
    batch = torch.zeros(n, 3, 80, 80)
    batch[:, :, 20:60, 25:55] = torch.rand(n, 3, 40, 30, generator=dice(5)) * 0.6 + 0.05
    return batch


NOTHING = Jitter(share=1.0, gain=0.0, noise_counts=0.0, blur_px=0.0, asinh_scale=60.0)


def test_a_jitter_of_zero_changes_nothing_and_a_share_of_zero_neither() -> None:
    torch.testing.assert_close(NOTHING.apply(stained(), dice()), stained(), atol=1e-5, rtol=0)
    strong = Jitter(share=0.0, gain=1.0, noise_counts=50.0, blur_px=2.0, asinh_scale=60.0)
    assert torch.equal(strong.apply(stained(), dice()), stained())


@pytest.mark.parametrize("asinh_scale", [0.0, 60.0])
def test_the_gain_multiplies_counts_and_not_the_bent_values(asinh_scale: float) -> None:
    one = Jitter(share=1.0, gain=0.2, noise_counts=0.0, blur_px=0.0, asinh_scale=asinh_scale)
    before, after = one._to_counts(stained() * 0.5), one._to_counts(one.apply(stained() * 0.5, dice()))
    factor = (after / before)[:, :, 20:60, 25:55].flatten(2)
    assert bool((factor.amax(2) - factor.amin(2) < 0.01).all()), "one factor for all pixels of a plane"
    assert len({round(float(value), 3) for value in factor[..., 0].flatten()}) > 40, "another for each plane and image"


def test_jitter_leaves_the_padding_black_and_stays_in_range() -> None:
    strong = Jitter(share=1.0, gain=1.0, noise_counts=80.0, blur_px=2.0, asinh_scale=60.0)
    after = strong.apply(stained(), dice())
    outside = torch.ones(80, 80, dtype=torch.bool)
    outside[20:60, 25:55] = False
    assert float(after[:, :, outside].abs().max()) == 0
    assert float(after.min()) >= 0
    assert float(after.max()) <= 1
    assert not torch.equal(after, stained())


def test_the_blur_spreads_a_point_and_keeps_its_light() -> None:
    point = torch.zeros(8, 3, 80, 80)
    point[:, :, 20:60, 20:60] = 1e-6  # a thumbnail, so that the point's surroundings are no padding
    point[:, :, 40, 40] = 0.5
    blur = Jitter(share=1.0, gain=0.0, noise_counts=0.0, blur_px=1.5, asinh_scale=0.0)
    after = blur.apply(point, dice())
    torch.testing.assert_close(after.sum((2, 3)), point.sum((2, 3)), atol=1e-3, rtol=0)
    assert float(after[:, :, 40, 40].min()) < 0.2


def test_our_grid_of_poses_is_torchs_own() -> None:
    poses = torch.randn(5, 2, 3, generator=dice())
    theirs = affine_grid(poses, [5, 3, 80, 60], align_corners=False)
    torch.testing.assert_close(_grid(poses, 80, 60), theirs, atol=1e-5, rtol=1e-5)
