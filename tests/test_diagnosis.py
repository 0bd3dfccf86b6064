from ctcml.diagnosis import ailments

HEALTHY = {"phase": 1, "beta": 10.0, "sse_ratio": 0.4, "latent_norm": 5.0, "dead_units": 0}


def test_a_healthy_run_has_no_ailment_and_neither_has_a_network_without_a_decoder() -> None:
    assert ailments([HEALTHY]) == []
    assert ailments([{name: value for name, value in HEALTHY.items() if name != "sse_ratio"}]) == []


def test_each_ailment_is_named_with_its_phase_its_figure_and_what_to_do() -> None:
    ill = [
        HEALTHY | {"sse_ratio": 1.0},
        HEALTHY | {"phase": 2, "latent_norm": 1e4},
        HEALTHY | {"phase": 3, "dead_units": 6},
    ]
    collapsed, ran_away, dead = ailments(ill)
    assert collapsed.startswith("phase 1 (beta 10): the reconstruction collapsed")
    assert "output_bias" in collapsed
    assert ran_away.startswith("phase 2")
    assert "10000" in ran_away
    assert "latent_l2" in ran_away
    assert dead.startswith("phase 3")
    assert "6 neuron(s)" in dead
    assert "hidden to linear" in dead


def test_what_healed_by_the_end_of_its_phase_is_no_ailment() -> None:
    assert ailments([HEALTHY | {"sse_ratio": 1.0}, HEALTHY]) == []
