"""What a person looks at after training: the curves of all epochs, and images beside their reconstructions."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ctcml.model import AECNN

PICTURED, MIDDLE = 3, slice(12, 68)  # thumbnails a class in a picture of reconstructions, and the pixels shown
TITLES = {
    "sse_ratio": "Error / that of a black picture",
    "classifier_share": "Classifier's share of the loss",
    "cross_entropy": "Cross-entropy",
    "latent_norm": "Mean norm of the latents",
    "accuracy": "Accuracy",
}


@torch.inference_mode()
def rebuilt_sheet(model: AECNN, pixels: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """The first thumbnails of each class (upper row) above their reconstructions, twice enlarged overlays: uint8 (H, W, 3)."""
    model.eval()
    shown = torch.cat([torch.nonzero(targets == k).flatten()[:PICTURED] for k in range(n_classes)])
    x = pixels[shown].float() / 255
    rows = torch.stack([x, model(x)[2]])[:, :, [0, 2, 1], MIDDLE, MIDDLE]  # red CD45, green CK, blue DAPI
    sheet = torch.cat(list(torch.cat(list(rows.unbind(0)), 2).unbind(0)), 2).permute(1, 2, 0)
    return sheet.repeat_interleave(2, 0).repeat_interleave(2, 1).mul(255).round().to(torch.uint8).cpu()


def learning_curves(history: Sequence[dict[str, float]]) -> Figure:
    """One panel a figure that the history holds, epoch by epoch, with a line where a phase begins."""
    titles = {name: title for name, title in TITLES.items() if name in history[0]}
    figure = Figure(figsize=(3 * len(titles), 3), layout="constrained")
    epochs = range(1, len(history) + 1)
    for axes, (name, title) in zip(figure.subplots(1, len(titles)), titles.items(), strict=True):
        axes.plot(epochs, [row[name] for row in history], marker="o", color="#1f4e79", label="training")
        if name == "accuracy" and "steering_accuracy" in history[0]:
            steering = [row["steering_accuracy"] for row in history]
            axes.plot(epochs, steering, marker="o", color="#c55a11", label="steering")
            axes.legend(frameon=False)
        for first in (number for number, row in enumerate(history, 1) if row["epoch"] == 1):
            axes.axvline(first - 0.5, color="#bbbbbb", linewidth=0.8)
            label = f"β {history[first - 1]['beta']:g}"
            axes.annotate(label, (first - 0.4, 1), xycoords=("data", "axes fraction"), fontsize=7, va="bottom")
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title, fontsize=9, y=1.06)
    return figure
