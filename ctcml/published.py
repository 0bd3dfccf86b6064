"""What Zeune et al. 2020 (Nature Machine Intelligence 2, 124-133) report in words, to stand beside a laboratory's own figures.

Theirs are real cells of other patients, seen by other instruments: no figure of anybody else has to equal them. Only
what the text states is here; what stands in their pictures alone is not guessed.
"""

from collections.abc import Collection, Mapping

REFERENCE = "Zeune LL et al. Deep learning of circulating tumour cells. Nat Mach Intell 2020; 2: 124-133"

SIX = {"ctc", "tdev", "wbc", "cd45ev", "bare_nucleus", "other"}

# (figure, network) -> share of 1, of the six-class set; the text gives none of the two others
FIGURES: Mapping[tuple[str, str], float] = {
    # "The classification performance increases from standard CNN to autoencoder CNN from 95.47% accuracy to 96.43% accuracy."
    ("accuracy", "standard"): 0.9547,
    ("accuracy", "autoencoder"): 0.9643,
    # "The sensitivity for classifying CTCs with the autoencoder CNN was 97.3% with a specificity of 98.8%,
    # whereas with the standard CNN the sensitivity dropped to 96.2%."
    ("ctc_sensitivity", "autoencoder"): 0.973,
    ("ctc_specificity", "autoencoder"): 0.988,
    ("ctc_sensitivity", "standard"): 0.962,
}

# "36 true CTCs were not recognized […] only 19 decisions were made with a probability over 75%, and if we increase this
# probability threshold to 90%, this is reduced to 12 cells", "91 cells that were classified as a CTC by the network but not
# by the manual reviewers […] 57 had a probability of over 75% […] 35 had a probability higher than 90%"
MISTAKES: Mapping[str, Mapping[float, int]] = {
    "missed": {0.0: 36, 0.75: 19, 0.9: 12},
    "false": {0.0: 91, 0.75: 57, 0.9: 35},
}

# "7% of the cells coming from benign breast samples were classified incorrectly (n = 185), 5% of all metastatic breast
# cancer cells (n = 3,460), 4% of colon cancer cells (n = 1,231), 3% of cells from prostate cancer samples (n = 3,782) and only
# 2% of all lung cancer cells (n = 892). All cells originating from cancer cell lines (n = 369) were classified correctly."
WRONG_BY_CANCER_TYPE: Mapping[str, tuple[float, int]] = {
    "benign breast": (0.07, 185),
    "breast": (0.05, 3460),
    "colorectal": (0.04, 1231),
    "prostate": (0.03, 3782),
    "lung": (0.02, 892),
    "cell line": (0.0, 369),
}

# "an overall agreement of 83.8%. For the 15,837 CTCs the network agreed in 10,413 cases (65.8%)."
EVENTS_AGREED, MANUAL_CTC_AGREED = 0.838, 0.658

# "Median overall survival for patients with <5 manual CTCs was 21.9 months versus 10.9 months for patients with >=5 CTCs",
# "patients with <5 DL CTCs had a median overall survival of 26.9 months whereas patients with >=5 DL CTCs had a median
# overall survival of 11.4 months", both "(P < 0.001, log-rank test)"; 164 patients. Hazard ratios stand in Fig. 6 alone.
MEDIANS: Mapping[str, tuple[float, float]] = {"manual": (21.9, 10.9), "autoencoder": (26.9, 11.4)}
SURVIVAL_PATIENTS = 164
# "for 25 patients the prognosis of favourable or unfavourable CTC count was different when comparing the two"
CHANGED_SIDE = 25


def published(classes: Collection[str], figure: str, network: str) -> float | None:
    """The paper's figure, or None where its text has none for these very classes.

    >>> published(SIX, "accuracy", "autoencoder"), published(SIX - {"cd45ev"}, "accuracy", "autoencoder")
    (0.9643, None)
    """
    return FIGURES.get((figure, network)) if set(classes) == SIX else None
