import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from ctcml.optimizers import EPSILON, RHO, batch_size_of, make_optimizer, one_cycle, rates_of


def test_adadelta_steps_as_keras_2_1_5_does() -> None:
    # keras/optimizers.py of 2.1.5: new_a = rho a + (1 - rho) g^2; update = g sqrt(d + eps) / sqrt(new_a + eps);
    # p -= lr update; d = rho d + (1 - rho) update^2.
    rng = np.random.default_rng(0)
    gradients = rng.normal(0, 0.3, (20, 5))
    p, a, d = rng.normal(size=5), np.zeros(5), np.zeros(5)
    weights = torch.nn.Parameter(torch.tensor(p))
    optimizer = make_optimizer("adadelta", [weights], learning_rate=1.0, weight_decay=0.0)
    for gradient in gradients:
        weights.grad = torch.tensor(gradient)
        optimizer.step()
        a = RHO * a + (1 - RHO) * gradient**2
        update = gradient * np.sqrt(d + EPSILON) / np.sqrt(a + EPSILON)
        p = p - update
        d = RHO * d + (1 - RHO) * update**2
    assert (RHO, EPSILON) == (0.95, 1e-7)
    np.testing.assert_allclose(weights.detach().numpy(), p, rtol=1e-10)


def test_the_papers_batches_double_every_15_epochs_and_ours_stay() -> None:
    sizes = [batch_size_of(epoch, first=16, double_every=15) for epoch in range(75)]
    assert [sizes.count(size) for size in (16, 32, 64, 128, 256)] == [15] * 5
    assert {batch_size_of(epoch, first=32, double_every=0) for epoch in range(75)} == {32}


def test_the_learning_rate_rises_once_and_falls_once_within_a_phase() -> None:
    rates = [one_cycle(step, 100, 0.002) for step in range(100)]
    turns = np.flatnonzero(np.diff(np.sign(np.diff(rates))))
    assert len(turns) == 1
    assert (max(rates), rates[0], rates[-1]) == pytest.approx((0.002, 0.002 / 25, 0))


def test_the_epochs_of_a_phase_join_to_one_cycle_also_when_batches_grow() -> None:
    steps = [10, 5, 3]
    whole = [one_cycle(step, 18, 0.002) for step in range(18)]
    parts = [rate for epoch in range(3) for rate in rates_of("adamw", epoch, steps=steps, learning_rate=0.002)]
    assert parts == whole
    assert all(abs(after - before) < 0.001 for before, after in pairwise(parts))
    assert math.isclose(max(rates_of("adadelta", 0, steps=steps, learning_rate=1.0)), 1.0)
