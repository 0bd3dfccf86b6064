"""The two networks of Zeune et al. 2020 (Methods, Fig. 8), whole, and their weights on disk; torch and nothing else.

Input of both: float (N, 3, 80, 80), planes CD45, DAPI, CK, scaled to 0..1.
Weights are safetensors and never a pickle, so that opening a model cannot run code.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, max_pool2d, relu

from ctcml.errors import BrokenRecord
from ctcml.tables import atomic_path

LATENT = 50
INPUT = "80x80x3 uint8 CD45,DAPI,CK"  # what every model takes, said in its card
Hidden = Literal["linear", "relu"]
Network = Literal["autoencoder", "standard"]
ARCHITECTURE: dict[Network, str] = {"autoencoder": "AE-CNN", "standard": "standard CNN"}  # the paper's names
NETWORK_OF = {name: network for network, name in ARCHITECTURE.items()}


class StandardCNN(nn.Module):
    """Encoder and classifier: three blocks of convolution and pooling, 208 neurons, 50 latents, two output layers.

    The paper gives every unnamed activation as ReLU, also that of the first output layer. With ReLU its few neurons
    (one a class) were measured to die together; `hidden="linear"` is our default for that layer.

    >>> sum(weights.numel() for weights in StandardCNN(6).parameters())
    1365790
    """

    def __init__(self, n_classes: int, *, hidden: Hidden = "linear") -> None:
        super().__init__()
        self.n_classes, self.hidden_activation = n_classes, hidden
        self.convolutions = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 16), (16, 32), (32, 64))])
        self.dense = nn.Linear(64 * 10 * 10, 208)
        self.latent = nn.Linear(208, LATENT)
        self.hidden = nn.Linear(LATENT, n_classes)
        self.output = nn.Linear(n_classes, n_classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster; unknown to torch's own types

    def classify(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, 50) -> logits (N, classes) and the activations (N, classes) of the layer before them."""
        hidden: Tensor = self.hidden(latent)
        if self.hidden_activation == "relu":
            hidden = relu(hidden)
        return self.output(hidden), hidden

    def to_latent(self, x: Tensor) -> Tensor:
        """Images (N, 3, 80, 80) in 0..1 -> latents (N, 50), without an activation."""
        for convolution in self.convolutions:  # (N, 16, 40, 40), (N, 32, 20, 20), (N, 64, 10, 10)
            x = relu(max_pool2d(convolution(x), 2))  # the same as pooling after ReLU, on a quarter of the pixels
        latent: Tensor = self.latent(relu(self.dense(x.flatten(1))))
        return latent

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, 80, 80) in 0..1 -> logits (N, classes), latents (N, 50)."""
        latent = self.to_latent(x)
        return self.classify(latent)[0], latent


class DoublingConv2d(nn.Conv2d):
    """Nearest upsampling by two and then a 3 x 3 convolution, done on the small map: (N, C, H, W) -> (N, O, 2H, 2W).

    After doubling, a row of the large map is made from only two rows of the small one: an even row 2i from (i-1, i)
    with weights (w0, w1 + w2), an odd row 2i+1 from (i, i+1) with (w0 + w1, w2); columns alike. So each output pixel
    needs 4 products instead of 9, and the result is the same. Seen from a small pixel, it adds to 4 x 4 large ones, with
    the rows w2, w1 + w2, w0 + w1, w0 of the kernel: a transposed convolution of stride 2.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fold = self.weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # large row, small row
        kernel = torch.einsum("pk,ql,oikl->iopq", fold, fold, self.weight)
        return conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class AECNN(StandardCNN):
    """The standard CNN with a decoder that must rebuild the image from the 50 latents, one convolutional net a plane.

    >>> sum(weights.numel() for weights in AECNN(6).parameters())
    1761889
    """

    def __init__(self, n_classes: int, *, hidden: Hidden = "linear") -> None:
        super().__init__(n_classes, hidden=hidden)
        self.undense = nn.Linear(LATENT, 64 * 10 * 10)
        self.decoders = nn.ModuleList(
            nn.Sequential(DoublingConv2d(64, 32), nn.ReLU(), DoublingConv2d(32, 16), nn.ReLU(), DoublingConv2d(16, 1))
            for _ in range(3)
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster; unknown to torch's own types

    def decode_logits(self, latent: Tensor) -> Tensor:
        """Latents (N, 50) -> images (N, 3, 80, 80) before the sigmoid."""
        x = relu(self.undense(latent)).view(-1, 64, 10, 10).contiguous(memory_format=torch.channels_last)
        return torch.cat([decoder(x) for decoder in self.decoders], 1)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (N, 50) -> images (N, 3, 80, 80) in 0..1."""
        return torch.sigmoid(self.decode_logits(latent))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 3, 80, 80) in 0..1 -> logits (N, classes), latents (N, 50), reconstruction (N, 3, 80, 80)."""
        logits, latent = self.encode(x)
        return logits, latent, self.decode(latent)


def initialise(model: StandardCNN, generator: torch.Generator) -> None:
    """Glorot uniform weights and zero biases, the defaults of the Keras that the paper used."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def set_output_bias(model: AECNN, mean_pixel: Tensor) -> None:
    """Start the reconstruction at the mean pixel (3,) of each plane instead of at 0.5.

    Thumbnails are nearly all black: from 0.5 the sigmoids saturate at zero within a few steps and the latents run
    away, the "all values close to zero" of the paper. Measured: SSE after beta = 0 falls from 1.00 to 0.40 of that
    of a black prediction.
    """
    with torch.no_grad():
        for decoder, mean in zip(model.decoders, mean_pixel.clamp(1e-4, 1 - 1e-4), strict=True):
            decoder.get_parameter("4.bias").fill_(float(torch.logit(mean)))


def make_model(network: Network, n_classes: int, *, hidden: Hidden = "linear") -> StandardCNN:
    """The network of that name, not yet initialised."""
    return AECNN(n_classes, hidden=hidden) if network == "autoencoder" else StandardCNN(n_classes, hidden=hidden)


def grow_head(model: StandardCNN, known: Sequence[str], classes: Sequence[str]) -> StandardCNN:
    """A copy of a model of the classes `known` that answers in the order of `classes`; nothing that was learnt is lost.

    Old logits stay exactly as they were. The logit of a new class starts as the mean of the old ones, which is never
    above the largest, so the grown model answers like the old one until it is trained. Each new class has a neuron of
    its own in the layer before, wired through at weight 1, so that it learns at the full rate from the first step.
    Every class of `known` must be among `classes`.
    """
    old, new = len(known), [name for name in classes if name not in known]
    network: Network = "autoencoder" if isinstance(model, AECNN) else "standard"
    grown = make_model(network, len(classes), hidden=model.hidden_activation)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith(("hidden.", "output."))}
    grown.load_state_dict(kept, strict=False)
    places, new_places = [classes.index(name) for name in known], [classes.index(name) for name in new]
    with torch.no_grad():
        for layer in (grown.hidden, grown.output):
            layer.weight.zero_()
        grown.hidden.weight[:old], grown.hidden.bias[:old] = model.hidden.weight, model.hidden.bias
        grown.output.weight[places, :old], grown.output.bias[places] = model.output.weight, model.output.bias
        grown.output.weight[new_places, :old] = model.output.weight.mean(0)
        grown.output.weight[new_places, old:] = torch.eye(len(new))
        grown.hidden.bias[old:] = 1.0  # above 0, so that with ReLU too the neuron is alive; taken back one layer later
        grown.output.bias[new_places] = model.output.bias.mean() - 1.0
    return grown


def save_weights(model: nn.Module, path: Path) -> str:
    """Write the weights as safetensors, atomically, and return the SHA-256 of the file."""
    content = save_tensors({name: value.detach().contiguous() for name, value in model.state_dict().items()})
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_model(folder: Path) -> tuple[StandardCNN, dict[str, Any]]:
    """Read `weights.safetensors` and `model.json` of a folder: the model and its card.

    Raises `BrokenRecord` when a file is missing or the weights are not those that the card describes.
    """
    try:
        card: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        content = (folder / "weights.safetensors").read_bytes()
        network = NETWORK_OF[card["architecture"]]
        model = make_model(network, len(card["classes"]), hidden=card["hidden"])
        expected = card["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenRecord(
            f"model {folder}: not readable ({' '.join(str(error).split())}); train it again or fetch it"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise BrokenRecord(
            f"model {folder}: weights have SHA-256 {found[:12]}, its card says {expected[:12]}; fetch it again"
        )
    try:
        model.load_state_dict(load_tensors(content))
    except RuntimeError as error:
        raise BrokenRecord(
            f"model {folder}: weights do not fit its card ({' '.join(str(error).split())[:200]})"
        ) from None
    return model, card
