"""The simulated camera: what a frame and its crops promise."""

import numpy as np

from ctcml.frames_in_silico import FRAME_SIDE_PX, archive, photograph
from ctcml.pencil import CHANNELS, draw_stain


def test_the_archive_keeps_no_more_than_256_levels_a_channel() -> None:
    counts = np.random.default_rng(0).uniform(80, 4000, (4, 64, 64)).astype(np.float32)
    restored = archive(counts)
    assert restored.dtype == np.uint16
    assert all(len(np.unique(plane)) <= 256 for plane in restored)
    assert np.abs(restored - counts).max() <= 0.51 * 4000 / 255 + 1


def test_a_flat_channel_survives_the_archive() -> None:
    assert archive(np.full((1, 4, 4), 90, np.float32)).tolist() == [[[90] * 4] * 4]


def test_every_object_gets_a_crop_inside_the_frame_with_a_margin_around_its_mask() -> None:
    rng = np.random.default_rng(1)
    wanted = [("wbc", 0.0)] * 15 + [("tdev", 0.0)] * 10
    frame, crops = photograph(wanted, draw_stain(rng), rng)
    assert frame.shape == (len(CHANNELS), FRAME_SIDE_PX, FRAME_SIDE_PX)
    assert len(crops) == 25
    for crop in crops:
        assert 0 <= crop.rows.start < crop.rows.stop <= FRAME_SIDE_PX
        assert 0 <= crop.columns.start < crop.columns.stop <= FRAME_SIDE_PX
        assert frame[:, crop.rows, crop.columns].shape == crop.mask.shape
        if crop.rows.start > 0 and crop.rows.stop < FRAME_SIDE_PX:
            assert not crop.mask[:, :5].any()


def test_an_object_at_the_edge_is_clipped_and_not_lost() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        _, crops = photograph([("ctc", 0.0)] * 40, draw_stain(rng), rng)
        clipped = [crop for crop in crops if crop.rows.start == 0 or crop.columns.start == 0]
        if clipped:
            assert all(crop.mask.any() for crop in clipped)
            return
    raise AssertionError("no object at an edge in 20 frames")
