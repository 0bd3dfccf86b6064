import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctcml.embed import Scorer, load_scorer, score
from ctcml.errors import BadInput, BrokenRecord
from ctcml.model import AECNN, initialise, save_weights

CLASSES = ["ctc", "tdev", "wbc", "bare_nucleus", "other"]


def stored_model(folder: Path) -> Path:
    model = AECNN(5)
    initialise(model, torch.Generator().manual_seed(0))
    card = {"classes": CLASSES, "recipe": "asinh", "hidden": "linear", "architecture": "AE-CNN"}
    card["weights_sha256"] = save_weights(model, folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return load_scorer(stored_model(tmp_path))


def thumbnails(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 80, 80, 3), dtype=np.uint8)


def test_a_scorer_knows_its_classes_its_recipe_and_its_hash(scorer: Scorer) -> None:
    assert scorer.classes == CLASSES
    assert scorer.recipe == "asinh"
    assert len(scorer.weights_sha256) == 64


def test_scores_come_as_declared_and_probabilities_sum_to_one(scorer: Scorer) -> None:
    scores = score(scorer, thumbnails(10), batch_size=8)
    assert (scores.probabilities.shape, scores.latents.shape, scores.reconstruction_error.shape) == (
        (10, 5),
        (10, 50),
        (10, 3),
    )
    assert {scores.probabilities.dtype, scores.latents.dtype, scores.reconstruction_error.dtype} == {
        np.dtype(np.float32)
    }
    np.testing.assert_allclose(scores.probabilities.sum(1), 1, rtol=1e-5)
    assert scores.predicted == [CLASSES[k] for k in scores.probabilities.argmax(1)]


def test_scores_are_those_of_the_plain_network(scorer: Scorer) -> None:
    images = thumbnails(5)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255
    with torch.inference_mode():
        logits, latent, rebuilt = scorer.model(x)
    scores = score(scorer, images)
    np.testing.assert_allclose(scores.probabilities, logits.softmax(1), atol=1e-5)
    np.testing.assert_allclose(scores.latents, latent, atol=1e-5)
    by_hand = ((rebuilt - x) ** 2).sum((2, 3)) / (x**2).sum((2, 3))
    np.testing.assert_allclose(scores.reconstruction_error, by_hand, rtol=1e-4)


def test_the_same_thumbnails_score_the_same_bits_again(scorer: Scorer) -> None:
    first, second = score(scorer, thumbnails(20)), score(scorer, thumbnails(20))
    assert first.probabilities.tobytes() == second.probabilities.tobytes()
    assert first.latents.tobytes() == second.latents.tobytes()
    assert first.reconstruction_error.tobytes() == second.reconstruction_error.tobytes()


def test_a_thumbnail_scores_the_same_alone_and_among_others_but_for_rounding(scorer: Scorer) -> None:
    images = thumbnails(20)
    together, alone = score(scorer, images, batch_size=16), score(scorer, images[17:19])
    np.testing.assert_allclose(together.probabilities[17:19], alone.probabilities, atol=1e-6)
    np.testing.assert_allclose(together.latents[17:19], alone.latents, atol=1e-5)


def test_a_read_only_array_is_scored_like_any_other(scorer: Scorer) -> None:
    images = thumbnails(3)
    images.flags.writeable = False
    assert np.array_equal(score(scorer, images).latents, score(scorer, thumbnails(3)).latents)


def test_no_thumbnails_give_empty_scores(scorer: Scorer) -> None:
    scores = score(scorer, thumbnails(0))
    assert (scores.probabilities.shape, scores.latents.shape, scores.predicted) == ((0, 5), (0, 50), [])


def test_a_black_plane_has_a_finite_reconstruction_error(scorer: Scorer) -> None:
    assert np.isfinite(score(scorer, np.zeros((1, 80, 80, 3), np.uint8)).reconstruction_error).all()


@pytest.mark.parametrize("images", [thumbnails(2) / 255, thumbnails(2).transpose(0, 3, 1, 2), thumbnails(2)[0]])
def test_images_that_went_through_no_recipe_are_refused(scorer: Scorer, images: NDArray[np.uint8]) -> None:
    with pytest.raises(BadInput, match="apply 'asinh' first"):
        score(scorer, images)


def test_progress_ends_with_the_last_thumbnail(scorer: Scorer) -> None:
    seen: list[tuple[int, int]] = []
    score(scorer, thumbnails(10), batch_size=4, progress=lambda done, n: seen.append((done, n)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_weights_that_are_not_those_of_the_card_are_refused(tmp_path: Path) -> None:
    stored_model(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(BrokenRecord, match="SHA-256"):
        load_scorer(tmp_path)
