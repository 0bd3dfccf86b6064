"""A model card tells a stranger what the model is for, what it was made of, how it does and where not to trust it."""

import re

from scorecards import CLASSES, a_scorecard

from ctcml.model_card import model_card

CARD = {
    "architecture": "AE-CNN", "classes": CLASSES, "recipe": "asinh", "seed": 20, "start": None, "n_patients": 76,
    "image": {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0},
    "n_train_per_class": dict.fromkeys(CLASSES, 1200), "ailments": ["phase 3: 2 dead neurons"],
    "weights_sha256": "ab" * 32,
}  # fmt: skip


def text(card: dict[str, object], scorecard: dict[str, object] | None) -> str:
    return model_card(card, scorecard, version="7", data_version="data-v3", code_commit="f741235")


def test_a_card_has_every_part_that_an_auditor_asks_for() -> None:
    card = a_scorecard()
    found = text(CARD, card)
    assert re.findall(r"^## (.*)$", found, re.M) == [
        "Intended use", "Data", "Input contract", "Classes", "Figures", "Limits", "Artefacts",
    ]  # fmt: skip
    for words in (
        "version 7", "Research use only", "data-v3", "`f741235`", "4,800 settled cells", "| Training patients | 76 |",
        "CD45, DAPI, CK", "80 × 80 × 3, uint8", "`asinh-v1(p10,60)`", "240 settled cells of 8 patients (steering patients)",
        "cell line <SKBR-3> & more", "CellTracks 2", "phase 3: 2 dead neurons", "cd45ev: the model does not know",
        "κ of the readers with each other", "at temperature 1.40", f"`weights.safetensors` | SHA-256 `{'ab' * 32}`",
        f"group {card['worst_cluster']['name']}",
    ):  # fmt: skip
        assert words in found, words
    sensitivity = card["ctc_sensitivity"]
    assert f"{sensitivity['value']:.3f} ({sensitivity['low']:.3f} to {sensitivity['high']:.3f})" in found


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    for block in re.findall(r"(?:^\|.*\|\n?)+", text(CARD, a_scorecard()), re.M):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}
        assert len(counts) == 1, block


def test_simulated_data_is_called_so_and_real_data_is_not() -> None:
    assert "SIMULATED" in text(CARD, a_scorecard())
    assert "SIMULATED" in text(CARD | {"simulated": True}, None)
    assert "SIMULATED" not in text(CARD, a_scorecard(simulated=False))


def test_a_model_that_was_never_judged_or_comes_from_elsewhere_still_has_a_card() -> None:
    assert "Not judged yet" in text(CARD, None)
    foreign = text({"classes": CLASSES, "weights_sha256": "cd" * 32, "recipe": "paper"}, None)
    assert "recipe `paper`" in foreign
    assert "| Training cells | not known |" in foreign


def test_the_sum_of_each_artefact_is_told_where_it_is_known() -> None:
    assert "`model.onnx` | SHA-256 `ef`" in text(CARD | {"sha256": {"model.onnx": "ef"}}, None)


def test_a_bar_in_a_name_does_not_break_a_table() -> None:
    card = a_scorecard()
    card["by"]["cancer_type"][0]["name"] = "breast | left"
    assert "breast \\| left" in text(CARD, card)
