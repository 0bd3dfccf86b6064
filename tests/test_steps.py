import pytest
import torch

from ctcml.loss import Loss
from ctcml.model import AECNN, initialise
from ctcml.optimizers import Kind, make_optimizer
from ctcml.steps import SUMS, Stepper, nothing_told


def stepper(kind: Kind = "adamw", device: str = "cpu") -> Stepper:
    model = AECNN(3)
    initialise(model, torch.Generator().manual_seed(0))
    model.to(device)
    loss = Loss(
        reconstruction="bce", beta=10.0, latent_l2=1e-4,
        channel_weights=torch.ones(3, device=device), class_weights=torch.ones(3, device=device),
    )  # fmt: skip
    optimizer = make_optimizer(kind, model.parameters(), learning_rate=1e-3, weight_decay=0.0)
    return Stepper(model, optimizer, loss, bf16=False)


def batch(n: int = 4, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, 3, 80, 80, generator=torch.Generator().manual_seed(n)).to(device), torch.arange(n).to(
        device
    ) % 3


def weights(of: Stepper) -> torch.Tensor:
    return torch.cat([one.detach().cpu().flatten() for one in of.model.parameters()])


@pytest.mark.parametrize("kind", ["adamw", "adadelta"])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_rehearsal_before_a_recording_leaves_the_run_as_it_was(kind: Kind, steps_before: int) -> None:
    rehearsed, straight = stepper(kind), stepper(kind)
    for one in (rehearsed, straight):
        for _ in range(steps_before):
            one.step(*batch(), 1e-3)
    rehearsed.rehearse(*batch(8))
    assert torch.equal(weights(rehearsed), weights(straight))
    for one in (rehearsed, straight):
        one.step(*batch(6), 1e-3)
    assert torch.equal(weights(rehearsed), weights(straight))


def test_what_steps_tell_adds_up_to_sums_over_all_their_images() -> None:
    one, told = stepper(), nothing_told(3, torch.device("cpu"))
    first = one.step(*batch(4), 0.0)
    second = one.step(*batch(6), 0.0)
    told.add(first)
    told.add(second)
    assert torch.equal(told.sums, first.sums + second.sums)
    found = dict(zip(SUMS, told.sums.tolist(), strict=True))
    assert found["energy"] == pytest.approx(sum(float(batch(n)[0].square().sum()) for n in (4, 6)), rel=1e-5)
    assert found["loss"] == pytest.approx(found["reconstruction"] + 10 * found["cross_entropy"], rel=1e-3)
    assert bool((told.highest >= told.lowest).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["adamw", "adadelta"])
def test_a_recorded_step_learns_what_a_plain_one_learns(kind: Kind) -> None:
    recorded, plain = stepper(kind, "cuda"), stepper(kind)
    for number in range(6):
        recorded.step(*batch(4 + number % 2, "cuda"), 1e-3)
        plain.step(*batch(4 + number % 2), 1e-3)
    torch.testing.assert_close(weights(recorded), weights(plain), atol=1e-4, rtol=1e-2)
