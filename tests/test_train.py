import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ctcml.accept import find_samples, read_sample
from ctcml.augment import Jitter
from ctcml.errors import BrokenRecord, CannotTrain
from ctcml.images import to_inputs
from ctcml.model import AECNN, initialise, load_model
from ctcml.train import Trained, _class_weights, _generator, train, write_model

CLASSES = ["ctc", "tdev", "wbc"]
PLANES_OF_CLASS = [(1, 2), (2,), (0, 1)]  # CD45, DAPI, CK: which ones a class lights up
NUMBERS: dict[str, Any] = {
    "classes": CLASSES, "network": "autoencoder", "betas": (0.0, 10.0, 100.0), "epochs": (2, 2, 1), "keep_phase": 3,
    "batch_size": 16, "double_every": 0, "optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.01,
    "latent_l2": 1e-4, "reconstruction": "bce", "hidden": "linear", "output_bias": "mean_pixel",
    "channel_weights": (1.0, 1.0, 1.0), "class_weights": "sqrt", "augmentation": "mild", "jitter": None, "seed": 7,
    "recipe": "asinh", "start": None,
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")


def blobs(n: int, *, seed: int, classes: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Round blobs on black, dim noise around them, the planes lit as the class says."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:80, :80] - 39.5
    labels = np.arange(n) % classes
    images = np.zeros((n, 80, 80, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[25:55, 25:55] = rng.integers(0, 12, (30, 30, 3))
        for plane in (*PLANES_OF_CLASS, (0,))[label]:
            image[np.hypot(x - rng.normal(0, 2), y - rng.normal(0, 2)) < rng.uniform(5, 11), plane] = rng.integers(
                90, 220
            )
    return images, labels


def run(folder: Path, *, n: int = 48, **changed: Any) -> Trained:
    images, labels = blobs(n, seed=1, classes=len(changed.get("classes", CLASSES)))
    return train(images, labels, checkpoints=folder, **NUMBERS | changed)


def bits(trained: Trained) -> bytes:
    return b"".join(weights.numpy().tobytes() for weights in trained.model.state_dict().values())


def without_seconds(trained: Trained) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in trained.history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    numbers: dict[str, Any] = {"n": 64, "epochs": (6, 1, 3), "batch_size": 4, "augmentation": "none", "seed": 8}
    return run(tmp_path_factory.mktemp("learnt"), **numbers)


class KilledError(Exception):
    """Stands for whatever ends a run early."""


def stop_after(epochs: int, lines: list[str]) -> Any:

    def stop(line: str) -> None:
        lines.append(line)
        if sum(line.startswith("beta") for line in lines) == epochs:
            raise KilledError

    return stop


def test_a_short_schedule_tells_three_obvious_classes_apart_on_images_it_has_not_seen(learnt: Trained) -> None:
    images, labels = blobs(60, seed=99)
    with torch.inference_mode():
        logits = learnt.model.eval().encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)[0]
    assert (logits.argmax(1).numpy() == labels).mean() > 0.9


def test_the_reconstruction_does_not_collapse_to_black_and_no_neuron_dies(laboratory: Path, tmp_path: Path) -> None:
    # "As a result, in the reconstruction, all values were close to zero" (paper, Methods): there the ratio stays at 1.00.
    found = [one.pixels for sample in find_samples(laboratory) for one in read_sample(sample)[0]]
    images = to_inputs(found, recipe="asinh", background_percentile=10.0, asinh_scale=60.0)
    numbers = NUMBERS | {"betas": (0.0,), "epochs": (5,), "keep_phase": 1, "batch_size": 4}
    history = train(images, np.arange(len(images)) % 3, checkpoints=tmp_path, **numbers).history
    assert history[-1]["sse_ratio"] < 0.6
    assert all(row["dead_units"] == 0 for row in history)


def test_the_same_seed_ends_with_the_same_bits_and_another_seed_does_not(whole: Trained, tmp_path: Path) -> None:
    assert bits(run(tmp_path)) == bits(whole)
    assert bits(run(tmp_path, seed=8)) != bits(whole)


@pytest.mark.parametrize("epochs", [1, 2, 3, 5])
def test_a_run_that_stopped_after_any_epoch_ends_with_the_very_same_bits(
    whole: Trained, tmp_path: Path, epochs: int
) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, progress=stop_after(epochs, []))
    lines: list[str] = []
    resumed = run(tmp_path, progress=lines.append)
    assert sum(line.startswith("beta") for line in lines) == 5 - epochs
    assert bits(resumed) == bits(whole)
    assert without_seconds(resumed) == without_seconds(whole)
    assert all(
        np.array_equal(picture, whole.reconstructions[beta]) for beta, picture in resumed.reconstructions.items()
    )


def test_a_checkpoint_is_not_used_for_a_run_with_other_numbers_or_other_images(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, progress=stop_after(4, []))
    for changed in ({"latent_l2": 1e-3}, {"n": 51}, {"channel_weights": (1.0, 1.0, 2.0)}):
        lines: list[str] = []
        with pytest.raises(KilledError):
            run(tmp_path, progress=stop_after(1, lines), **changed)
        assert lines[0].startswith("beta 0 (phase 1 of 3), epoch 1 of 2")


def test_a_broken_checkpoint_is_named_and_not_trained_over(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, progress=stop_after(1, []))
    (checkpoint,) = tmp_path.glob("*.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(BrokenRecord, match="delete it"):
        run(tmp_path)


def test_the_model_of_the_kept_phase_is_returned_and_later_phases_are_still_recorded(tmp_path: Path) -> None:
    kept, ended = run(tmp_path, keep_phase=2), run(tmp_path, keep_phase=2, betas=(0.0, 10.0), epochs=(2, 2))
    assert bits(kept) == bits(ended)
    assert [row["beta"] for row in kept.history] == [0, 0, 10, 10, 100]
    assert list(kept.reconstructions) == [0, 10, 100]


def test_at_beta_zero_the_classifier_stays_random_as_in_the_paper(tmp_path: Path) -> None:
    model = AECNN(3)
    initialise(model, _generator(NUMBERS["seed"], 0, 0))
    trained = run(tmp_path, betas=(0.0,), epochs=(1,), keep_phase=1).model
    assert torch.equal(trained.output.weight, model.output.weight)
    assert torch.equal(trained.hidden.weight, model.hidden.weight)
    assert not torch.equal(trained.latent.weight, model.latent.weight)


def test_the_history_tells_of_each_epoch_what_the_reports_draw(whole: Trained, tmp_path: Path) -> None:
    named = {
        "phase",
        "beta",
        "epoch",
        "loss",
        "reconstruction",
        "cross_entropy",
        "latent_norm",
        "accuracy",
        "sse_ratio",
        "classifier_share",
    }
    assert all(set(row) == named | {"dead_units", "seconds"} for row in whole.history)
    assert [(row["phase"], row["epoch"]) for row in whole.history] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]
    steered = run(tmp_path, steering=blobs(9, seed=3))
    assert all(row["steering_accuracy"] in {k / 9 for k in range(10)} for row in steered.history)
    assert bits(steered) == bits(whole), "looking at the steering set must not change the model"


def test_after_each_epoch_a_person_reads_one_line_with_an_estimate(tmp_path: Path) -> None:
    lines: list[str] = []
    run(tmp_path, progress=lines.append)
    lines = [line for line in lines if not line.startswith("LOOK")]
    assert len(lines) == 5
    assert lines[0].startswith("beta 0 (phase 1 of 3), epoch 1 of 2: reconstruction ")
    assert lines[-1].endswith("about 0 s left")


def test_a_former_model_goes_on_and_learns_a_class_more(learnt: Trained, tmp_path: Path) -> None:
    write_model(learnt, tmp_path / "former")
    numbers: dict[str, Any] = {
        "n": 64,
        "betas": (100.0,),
        "epochs": (6,),
        "keep_phase": 1,
        "batch_size": 4,
        "augmentation": "none",
    }
    grown = run(tmp_path, classes=[*CLASSES, "cd45ev"], start=tmp_path / "former", **numbers)
    assert grown.card["classes"] == [*CLASSES, "cd45ev"]
    assert grown.card["start"] == load_model(tmp_path / "former")[1]["weights_sha256"]
    assert grown.history[-1]["accuracy"] > 0.9


def test_a_former_model_of_another_recipe_or_with_a_class_that_is_gone_is_refused(
    whole: Trained, tmp_path: Path
) -> None:
    write_model(whole, tmp_path / "former")
    with pytest.raises(CannotTrain, match=r"'asinh'.*'paper'"):
        run(tmp_path, start=tmp_path / "former", recipe="paper")
    with pytest.raises(CannotTrain, match=r"knows wbc, which is none of .*; train from scratch"):
        run(tmp_path, start=tmp_path / "former", classes=["tdev", "cd45ev", "ctc"])


def test_a_class_without_an_image_is_named(tmp_path: Path) -> None:
    images, labels = blobs(6, seed=0, classes=2)
    with pytest.raises(CannotTrain, match="wbc"):
        train(images, labels, checkpoints=tmp_path, **NUMBERS)


@pytest.mark.parametrize(
    ("images", "labels", "classes"),
    [
        (np.zeros((2, 80, 80, 3), np.float32), [0, 1], ["ctc", "wbc"]),
        (np.zeros((2, 3, 80, 80), np.uint8), [0, 1], ["ctc", "wbc"]),
        (np.zeros((2, 80, 80, 3), np.uint8), [0, 0], ["ctc"]),
        (np.zeros((2, 80, 80, 3), np.uint8), [0, 1], ["ctc", "ctc"]),
        (np.zeros((2, 80, 80, 3), np.uint8), [0, 2], ["ctc", "wbc"]),
        (np.zeros((2, 80, 80, 3), np.uint8), [0, 1, 1], ["ctc", "wbc"]),
        (np.zeros((0, 80, 80, 3), np.uint8), [], ["ctc", "wbc"]),
    ],
)
def test_what_is_no_training_set_is_refused_in_one_line(
    tmp_path: Path, images: NDArray[Any], labels: list[int], classes: list[str]
) -> None:
    with pytest.raises(CannotTrain) as caught:
        train(images, np.array(labels, dtype=np.int64), checkpoints=tmp_path, **NUMBERS | {"classes": classes})
    assert "\n" not in str(caught.value)


def test_a_run_that_diverges_stops_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="not finite"):
        run(tmp_path, learning_rate=1e30)


def test_rare_classes_weigh_more_and_the_mean_weight_of_an_image_is_one() -> None:
    counts = np.array([900, 100])
    weights = _class_weights(counts, "sqrt").numpy()
    assert weights[1] / weights[0] == pytest.approx(3)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    assert _class_weights(counts, "none").tolist() == [1, 1]


def test_the_standard_cnn_skips_the_phases_without_a_classifier_and_learns(tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"n": 64, "epochs": (6, 1, 5), "batch_size": 4, "augmentation": "none", "seed": 8}
    trained = run(tmp_path, network="standard", **numbers)
    assert not isinstance(trained.model, AECNN)
    assert trained.card["architecture"] == "standard CNN"
    assert [row["beta"] for row in trained.history] == [10] + 5 * [100]
    assert "sse_ratio" not in trained.history[0]
    assert trained.history[-1]["accuracy"] > 0.9
    with pytest.raises(CannotTrain, match=r"keep_phase is 1, but the standard CNN trains \[2, 3\]"):
        run(tmp_path, network="standard", keep_phase=1)


def test_a_standard_cnn_goes_on_as_an_autoencoder_and_keeps_what_it_learnt(tmp_path: Path) -> None:
    former = run(tmp_path, network="standard")
    write_model(former, tmp_path / "former")
    trained = run(tmp_path, betas=(0.0,), epochs=(1,), keep_phase=1, start=tmp_path / "former")
    assert isinstance(trained.model, AECNN)
    assert torch.equal(trained.model.output.weight, former.model.output.weight)


def test_the_papers_way_grows_its_batches_and_steps_by_adadelta(tmp_path: Path) -> None:
    paper: dict[str, Any] = {"optimizer": "adadelta", "learning_rate": 1.0, "batch_size": 8, "double_every": 1}
    whole = run(tmp_path / "whole", augmentation="paper", **paper)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", augmentation="paper", progress=stop_after(2, []), **paper)
    assert bits(run(tmp_path / "killed", augmentation="paper", **paper)) == bits(whole)
    assert (whole.card["optimizer"], whole.card["double_every"]) == ("adadelta", 1)


def test_a_reconstruction_that_starts_at_grey_collapses_and_is_named_with_what_to_do(tmp_path: Path) -> None:
    lines: list[str] = []
    collapsed = run(tmp_path, output_bias="zero", betas=(0.0,), epochs=(1,), keep_phase=1, progress=lines.append)
    assert collapsed.history[-1]["sse_ratio"] > 0.9
    assert any("the reconstruction collapsed" in line and "output_bias" in line for line in lines)
    assert collapsed.card["ailments"] == [line.removeprefix("LOOK: ") for line in lines if line.startswith("LOOK")]


def test_both_readings_of_the_reconstruction_error_train_and_differ(whole: Trained, tmp_path: Path) -> None:
    squared = run(tmp_path, reconstruction="sse")
    assert bits(squared) != bits(whole)
    assert 0 < squared.history[-1]["classifier_share"] < 1


def test_jitter_changes_what_is_learnt_and_is_on_the_card(whole: Trained, tmp_path: Path) -> None:
    jitter = Jitter(share=1.0, gain=0.4, noise_counts=10.0, blur_px=1.0, asinh_scale=60.0)
    trained = run(tmp_path, jitter=jitter)
    assert bits(trained) != bits(whole)
    assert trained.card["jitter"]["gain"] == 0.4


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(CannotTrain, match=f"device '{missing}' is not there.*set train.device to auto"):
        run(tmp_path, device=missing)


def test_a_single_step_is_a_schedule_too(tmp_path: Path) -> None:
    assert len(run(tmp_path, n=3, betas=(10.0,), epochs=(1,), keep_phase=1).history) == 1


def test_a_written_model_is_whole_and_its_pictures_open(whole: Trained, tmp_path: Path) -> None:
    digest = write_model(whole, tmp_path / "candidate", extra={"n_patients": 5})
    model, card = load_model(tmp_path / "candidate")
    assert torch.equal(model.dense.weight, whole.model.dense.weight)
    assert (card["weights_sha256"], card["n_patients"], card["n_train_per_class"]) == (
        digest,
        5,
        dict.fromkeys(CLASSES, 16),
    )
    assert (card["recipe"], card["input"], card["keep_phase"], card["seed"]) == (
        "asinh",
        "80x80x3 uint8 CD45,DAPI,CK",
        3,
        7,
    )
    assert json.loads((tmp_path / "candidate" / "history.json").read_text()) == whole.history
    for name in ("learning.png", "reconstructions-beta-0.png", "reconstructions-beta-100.png"):
        with Image.open(tmp_path / "candidate" / name) as picture:
            picture.load()
