"""Colours can be told apart, words can be read, on white and on dark, and each colour has a counterpart."""

import itertools
import tomllib
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from numpy.typing import NDArray

import dashboards
from dashboards import palette
from dashboards.palette import CLASS_COLOURS, DARK_PAGE, ON_DARK, PAGE, SPARE_COLOURS, dark_colour, dressed, on_dark

THEMES = tomllib.loads(Path(dashboards.__file__).with_name(".streamlit").joinpath("config.toml").read_text())["theme"]
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "no red cones": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "no green cones": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "no blue cones": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
APART = 15.0  # CIE 1976; about six times what can just be seen, for dots of four pixels


def linear(colour: str) -> NDArray[np.float64]:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance."""
    light, dark = sorted((float(linear(colour) @ TO_XYZ[1]) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    ratios = TO_XYZ @ rgb / np.array([0.95047, 1.0, 1.08883])
    root = np.where(ratios > 0.008856, np.cbrt(ratios), 7.787 * ratios + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_black_on_white_is_the_largest_contrast_there_is() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_classes_can_be_told_apart_by_everybody(theme: str, sight: str) -> None:
    colours = {one: ON_DARK[colour] if theme == "dark" else colour for one, colour in CLASS_COLOURS.items()}
    seen = {one: lab(np.clip(SIGHT[sight] @ linear(colour), 0, 1)) for one, colour in colours.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > APART, (one, other)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_of_a_chart_are_read_with_wcag_aa(theme: str) -> None:
    page = DARK_PAGE if theme == "dark" else PAGE
    for colour in (palette.BLACK, palette.SLATE, palette.RUST):
        assert contrast(ON_DARK[colour] if theme == "dark" else colour, page) >= 4.5, colour


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_of_the_page_and_its_links_are_read_with_wcag_aa(theme: str) -> None:
    told = THEMES[theme]
    for background in (told["backgroundColor"], told["secondaryBackgroundColor"]):
        assert contrast(told["textColor"], background) >= 4.5
        assert contrast(told["primaryColor"], background) >= 4.5


def test_on_dark_every_colour_of_a_dot_stands_out_from_the_page() -> None:
    for colour in (*CLASS_COLOURS.values(), *SPARE_COLOURS):
        assert contrast(ON_DARK[colour], DARK_PAGE) >= 3, colour


def test_the_theme_and_the_charts_have_the_same_background_and_text() -> None:
    assert THEMES["light"]["backgroundColor"] == PAGE
    assert THEMES["dark"]["backgroundColor"] == DARK_PAGE
    assert THEMES["light"]["textColor"] == palette.BLACK
    assert THEMES["dark"]["textColor"] == ON_DARK[palette.BLACK]
    assert "base" not in THEMES


def test_on_a_dark_page_no_colour_of_a_figure_is_left_as_it_was() -> None:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], marker={"color": [palette.BLUE, palette.VERMILION]}, text=["#0072B2 is a word", "b"]))  # fmt: skip
    figure.add_vrect(x0=0, x1=1, fillcolor=palette.faded(palette.SKY, 0.15))
    dressed(figure, height=300, simulated=True)
    darker = on_dark(figure)
    assert list(darker.data[0].marker.color) == [ON_DARK[palette.BLUE], ON_DARK[palette.VERMILION]]
    assert darker.data[0].text == ("#0072B2 is a word", "b")
    assert darker.layout.shapes[0].fillcolor == palette.faded(ON_DARK[palette.SKY], 0.15)
    assert darker.layout.font.color == ON_DARK[palette.BLACK]
    assert darker.layout.annotations[0].font.color == ON_DARK[palette.RUST]
    assert darker.layout.paper_bgcolor == darker.layout.plot_bgcolor == DARK_PAGE
    assert figure.data[0].marker.color[0] == palette.BLUE  # the figure of the light page is left alone


def test_a_scale_that_is_dark_for_much_on_white_is_light_for_much_on_dark() -> None:
    figure = go.Figure(go.Scatter(x=[1], y=[1], marker={"color": [0.5], "colorscale": "Viridis", "reversescale": True}))
    assert on_dark(figure).data[0].marker.reversescale is False


def test_what_cannot_be_seen_stays_invisible() -> None:
    assert dark_colour("rgba(0,0,0,0)") == "rgba(0,0,0,0)"
    assert dark_colour("#123456") == "#123456"
