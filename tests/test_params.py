"""params.yaml: what is shipped is valid, and every mistake is reported at once."""

from pathlib import Path

import pytest
import yaml

from ctcml.errors import BadParams
from ctcml.params import Params, load_params

SHIPPED = Path(__file__).parents[1] / "params.yaml"


def test_the_shipped_parameters_are_valid() -> None:
    params = load_params(SHIPPED)
    for profile in params.train.profiles.values():
        assert profile.betas == (0.0, 10.0, 100.0, 1000.0)  # the paper's four phases
        assert profile.betas[profile.keep_phase - 1] == 100.0  # the third network is the paper's final one
    assert params.gate.unattended is False


def test_the_profile_of_the_paper_is_the_papers_to_the_letter() -> None:
    # Zeune et al. 2020, Methods: ADADELTA, batches of 16 doubled every 15 epochs, 75 epochs a network.
    paper = load_params(SHIPPED).train.numbers("paper")
    assert (paper["optimizer"], paper["batch_size"], paper["double_every"]) == ("adadelta", 16, 15)
    assert (set(paper["epochs"]), paper["learning_rate"], paper["hidden"]) == ({75}, 1.0, "relu")


def test_a_profile_that_is_not_there_or_whose_phases_do_not_agree_is_named(tmp_path: Path) -> None:
    for change, complaint in (
        ({"profile": "quick"}, "'quick' is not there; name one of modern, paper"),
        ({"profiles": {"modern": {"betas": [0.0, 10.0]}}}, "2 betas but 4 epochs"),
        ({"profiles": {"modern": {"keep_phase": 5}}}, "keep_phase 5 of 4 phases"),
    ):
        found = yaml.safe_load(SHIPPED.read_text())
        for name, value in change.items():
            if name == "profiles":
                found["train"]["profiles"]["modern"] |= value["modern"]
            else:
                found["train"][name] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(found))
        with pytest.raises(BadParams, match=complaint):
            load_params(tmp_path / "params.yaml")


def test_shares_that_do_not_sum_to_one_and_a_random_arm_under_a_tenth_are_refused(tmp_path: Path) -> None:
    for change, complaint in (
        ({"novel": 0.6}, "queue.shares: .*shares sum to 1.05, expected 1"),
        ({"random": 0.09, "novel": 0.585}, "queue.shares.random: .*greater than or equal to 0.1"),
    ):
        found = yaml.safe_load(SHIPPED.read_text())
        found["queue"]["critical_between"] = [0.9, 0.1]
        found["queue"]["shares"] |= change
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(found))
        with pytest.raises(BadParams, match=f"{complaint}.*critical_between: .*no probability lies between"):
            load_params(tmp_path / "params.yaml")


def test_every_number_says_where_it_comes_from() -> None:
    lines = SHIPPED.read_text().splitlines()
    bare = [line for line in lines if line.startswith("  ") and ":" in line and "#" not in line]
    assert {line.strip().split(":")[0] for line in bare} <= {
        "breast",
        "prostate",
        "colorectal",
        "lung",
    }  # told in the line above


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    found = yaml.safe_load(SHIPPED.read_text())
    found["train"]["learning_rat"] = 1
    found["gate"]["ctc_sensitivity_margin"] = 7
    found["settlement"]["check_share"] = -0.1
    del found["image"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(found))
    with pytest.raises(BadParams) as caught:
        load_params(tmp_path / "params.yaml")
    for part in ("train.learning_rat", "gate.ctc_sensitivity_margin", "settlement.check_share", "image"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: [", b"", b"- 1"])
def test_a_file_that_is_no_parameter_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(BadParams, match=r"params\.yaml"):
        load_params(tmp_path / "params.yaml")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BadParams, match="ctcml init"):
        load_params(tmp_path / "params.yaml")


def test_parameters_cannot_be_changed_on_the_way() -> None:
    params: Params = load_params(SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1  # type: ignore[misc]
