from pathlib import Path

import numpy as np
import pytest

from ctcml.bench_train import (
    OURS_MILD,
    OURS_PAPER,
    OURS_PLAIN,
    PLAIN,
    PLAIN_BATCHED,
    PLAIN_WORKERS,
    Timed,
    _ways,
    figures_of,
    gpu_figures,
    run_way,
)


def took(seconds: float, cpu: float) -> Timed:
    return Timed(epochs=[9.0, seconds, 8.0], cpu=[9.0, cpu, 0.1], beside=0.5, peak_mb=500.0)


@pytest.mark.trial
def test_every_way_trains_a_network_of_the_same_size_and_tells_each_epoch(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(1).integers(0, 255, (6, 80, 80, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(6))
    ways = {way.name: way for way in _ways("autoencoder", 3, 1, threads=1)}
    for name in (OURS_PAPER, PLAIN):  # `run_way` counts the parameters
        timed = run_way(ways[name], tmp_path)
        assert len(timed.epochs) == len(timed.cpu) == 3
        assert timed.cpu_seconds > 0


def test_the_ratio_is_that_of_the_quicker_plain_way_and_leaves_the_first_epoch_out() -> None:
    timed = {
        OURS_PAPER: took(1.0, 1), OURS_MILD: took(0.8, 1), OURS_PLAIN: took(0.5, 1), PLAIN: took(7.0, 1),
        PLAIN_WORKERS: took(6.0, 1), PLAIN_BATCHED: took(3.0, 1),
    }  # fmt: skip
    alone = {OURS_PAPER: took(1, 2.0), PLAIN: took(1, 9.0), PLAIN_BATCHED: took(1, 5.0)}
    rows = {one.name: one for one in figures_of("standard", 3000, timed, alone)}
    assert rows["standard CNN: ratio to the plain way"].value == "6.0 x"
    assert rows["standard CNN: ratio to the plain way"].asked == ">= 3 x"
    assert rows["standard CNN: the same in CPU time of one thread"].value == "4.5 x"
    assert rows["standard CNN: ratio to the plain network, same augmentation"].value == "3.0 x"
    assert rows["standard CNN: share of an epoch that augmentation takes"].value == "paper 50%, mild 38%"
    assert "num_workers=2" in rows["standard CNN: plain, the paper's augmentation an image at a time"].value


def test_the_papers_schedule_is_the_sum_of_its_epochs_at_each_batch_size() -> None:
    rows = gpu_figures([4.0, 2.0, 1.0, 0.5, 0.5], eager=16.0, gpu="H100")
    assert rows[0].value == "6.0 min on H100"  # 3 phases x 15 epochs x 8 s
    assert rows[2].value == "75% (a recorded step is 4.0 times as fast)"
