import numpy as np
import pytest
import torch

from ctcml.loss import Loss, Reconstruction


def loss(reconstruction: Reconstruction = "bce", **changed: float) -> Loss:
    numbers = {"beta": 10.0, "latent_l2": 0.5} | changed
    return Loss(
        reconstruction=reconstruction, channel_weights=torch.tensor([1.0, 2.0, 0.5]),
        class_weights=torch.tensor([1.0, 3.0]), **numbers,
    )  # fmt: skip


@pytest.mark.parametrize("reconstruction", ["bce", "sse"])
def test_the_error_is_summed_over_pixels_and_weighted_planes_and_stays_one_number_an_image(
    reconstruction: Reconstruction,
) -> None:
    rng = np.random.default_rng(1)
    logits, x = rng.normal(size=(2, 3, 4, 4)), rng.uniform(size=(2, 3, 4, 4))
    drawn = 1 / (1 + np.exp(-logits))
    each = -(x * np.log(drawn) + (1 - x) * np.log(1 - drawn)) if reconstruction == "bce" else (drawn - x) ** 2
    by_hand = (each.sum((2, 3)) * [1.0, 2.0, 0.5]).sum(1)
    found = loss(reconstruction).rebuilding(torch.tensor(logits).float(), torch.tensor(x).float())
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


def test_beta_and_the_weight_of_the_class_multiply_the_cross_entropy() -> None:
    found = loss().classifying(torch.tensor([0.5, 0.5]), torch.tensor([0, 1]))
    assert found.tolist() == [5.0, 15.0]


def test_the_penalty_is_the_sum_of_squared_latents() -> None:
    assert loss().settling(torch.tensor([[1.0, 2.0], [0.0, 0.0]])).tolist() == [2.5, 0.0]
