"""The three ways in which this network is known to fall ill, read from a history, each named with what to do."""

from collections.abc import Mapping, Sequence

COLLAPSED = 0.9  # squared error / that of a black picture; measured: 1.00 when collapsed, 0.4 and less when not
RAN_AWAY = 100.0  # mean norm of the latents; measured: below 20 in healthy runs


def ailments(history: Sequence[Mapping[str, float]]) -> list[str]:
    """One line for each ailment at the end of each phase; none for a healthy run.

    >>> ailments([{"phase": 1, "beta": 0, "sse_ratio": 1.0, "latent_norm": 3, "dead_units": 0}])[0][:38]
    'phase 1 (beta 0): the reconstruction c'
    """
    last = {row["phase"]: row for row in history}
    return [f"phase {phase:g} (beta {row['beta']:g}): {line}" for phase, row in last.items() for line in _of(row)]


def _of(row: Mapping[str, float]) -> list[str]:
    found = []
    if row.get("sse_ratio", 0.0) > COLLAPSED:
        found.append(
            f"the reconstruction collapsed, its squared error is {row['sse_ratio']:.2f} of that of a black picture"
            f" (expected at most {COLLAPSED:g}); set output_bias to mean_pixel and image.recipe to asinh"
        )
    if row["latent_norm"] > RAN_AWAY:
        found.append(
            f"the latents ran away, their mean norm is {row['latent_norm']:.0f} (expected at most {RAN_AWAY:g}); "
            "raise latent_l2"
        )
    if row["dead_units"]:
        found.append(
            f"{row['dead_units']:.0f} neuron(s) before the output never move (expected none); set hidden to linear"
        )
    return found
