"""Ways to run encoder and classifier on this machine; each is compared with the plain network, and the fastest is chosen.

===============  ==============================================================  ===========================
engine           how                                                             where
===============  ==============================================================  ===========================
reference        torch as it is written: fp32, planes apart (NCHW)               everywhere; what others must equal
torch-fp32       channels last, which the processor's convolutions prefer        everywhere, and @cuda, @mps
torch-bf16       the same with convolutions in bf16, dense layers in fp32        processors with bf16, and @cuda
onnx             ONNX Runtime, fp32, the scaling of the bytes inside the graph   every processor
===============  ==============================================================  ===========================

torch takes seconds to import and a worker that runs `onnx` needs none of it, so both are imported where they are used.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctcml.errors import BadInput
from ctcml.images import SIZE, Picture
from ctcml.records import PLANES
from ctcml.thumbnails import one_line

Floats = NDArray[np.float32]
Output = tuple[Floats, Floats]  # logits (N, classes), latents (N, 50)

REFERENCE = "reference"
BATCH = 64  # measured: 256 is slower, the layers' outputs leave the cache
PROBED = 3 * BATCH
FP32_TOLERANCE, BF16_TOLERANCE = 1e-4, 5e-2  # largest difference of a logit from the reference
EQUAL_PREDICTIONS = 0.999
WORTH_TORCH = 1.5  # another engine must be this much faster than onnx, which starts seconds earlier in each worker


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """A model ready to run; `run` takes at most a batch of images, uint8 (N, 80, 80, 3)."""

    name: str
    run: Callable[[Picture], Output]

    def score(self, images: Picture) -> Output:
        """Images uint8 (N, 80, 80, 3) -> logits (N, classes) and latents (N, 50), float32; N may be 0."""
        parts = [self.run(images[first : first + BATCH]) for first in range(0, max(len(images), 1), BATCH)]
        return np.concatenate([logits for logits, _ in parts]), np.concatenate([latents for _, latents in parts])


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An engine that equals the reference, and how fast it was on the probe."""

    name: str
    per_second: float


@dataclass(frozen=True, kw_only=True)
class Declined:
    """An engine that is not offered, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The engine that was chosen, and what the others did."""

    chosen: Offer
    offers: tuple[Offer, ...]
    declined: tuple[Declined, ...]

    def __str__(self) -> str:
        """One line for people.

        >>> print(Choice(chosen=Offer(name="onnx", per_second=4912.3), offers=(), declined=()))
        onnx (4,912 thumbnails/s a process)
        """
        others = [f"{one.name} {one.per_second:,.0f}" for one in self.offers if one != self.chosen]
        refused = [f"{one.name} not offered: {one.reason}" for one in self.declined]
        more = "; ".join([*([f"others: {', '.join(others)}"] if others else []), *refused])
        return f"{self.chosen.name} ({self.chosen.per_second:,.0f} thumbnails/s a process{'; ' if more else ''}{more})"


def engines_here() -> list[str]:
    """Name the engines that this machine can run, the reference first."""
    import torch

    from ctcml.devices import fast_bf16

    names = [REFERENCE, "torch-fp32", "onnx"]
    if fast_bf16(torch.device("cpu")):
        names.append("torch-bf16")
    if torch.cuda.is_available():
        names += ["torch-fp32@cuda", "torch-bf16@cuda"]
    if torch.backends.mps.is_available():
        names.append("torch-fp32@mps")
    return names


def load_engine(name: str, folder: Path, *, threads: int = 1) -> Engine:
    """Make the engine `name` of the model in `folder`, on so many threads of the processor.

    Raises `BrokenRecord` when the weights are not those of the model's card; `onnx` takes them as `choose_engine` found
    them.
    """
    return _onnx_engine(folder, threads) if name == "onnx" else _torch_engine(name, folder, threads)


def _torch_engine(name: str, folder: Path, threads: int) -> Engine:
    import torch

    from ctcml.model import load_model

    kind, _, device = name.partition("@")
    model, _ = load_model(folder)
    model.eval().requires_grad_(False)
    apart = kind == REFERENCE
    model.to(device=device or "cpu", memory_format=torch.contiguous_format if apart else torch.channels_last)  # type: ignore[call-overload]
    dtype = torch.bfloat16 if kind == "torch-bf16" else torch.float32
    model.convolutions.to(dtype)  # where the arithmetic is; a logit of 10 in bf16 would be off by 0.03 by itself
    model.dense.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))

    @torch.inference_mode()
    def run(images: Picture) -> Output:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            x = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(device or "cpu")
            x = x.permute(0, 3, 1, 2).to(dtype)  # channels last in memory, as it came
            logits, latents = model.encode((x.contiguous() if apart else x) / 255)
            return logits.cpu().numpy(), latents.cpu().numpy()
        finally:
            torch.set_num_threads(before)

    return Engine(name=name, run=run)


def _onnx_engine(folder: Path, threads: int) -> Engine:
    import onnxruntime
    from safetensors.numpy import load_file

    onnxruntime.disable_telemetry_events()  # Microsoft's own builds for Windows would send some
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    graph = onnx_graph(load_file(folder / "weights.safetensors"), hidden=card["hidden"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(images: Picture) -> Output:
        logits, latents = session.run(None, {"images": images})
        return logits, latents

    return Engine(name="onnx", run=run)


def onnx_graph(weights: Mapping[str, Floats], *, hidden: str) -> bytes:
    """Encoder and classifier as an ONNX model: images uint8 (N, 80, 80, 3) -> logits (N, classes), latents (N, 50).

    `weights` are those of `model.StandardCNN` by name; `hidden` is the activation of its first output layer. It is
    `StandardCNN.encode` once more, layer by layer; every start and a test hold the two against each other.
    """
    from onnx import NodeProto, TensorProto, helper, numpy_helper

    nodes, constants = list[NodeProto](), [numpy_helper.from_array(np.array(255, np.float32), "full scale")]

    def then(kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind} {len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def layer(name: str) -> list[str]:
        names = [f"{name}.weight", f"{name}.bias"]
        constants.extend(numpy_helper.from_array(np.ascontiguousarray(weights[one]), one) for one in names)
        return names

    x = then("Div", then("Transpose", then("Cast", "images", to=TensorProto.FLOAT), perm=[0, 3, 1, 2]), "full scale")
    for block in range(3):
        x = then("Relu", then("Conv", x, *layer(f"convolutions.{block}"), pads=[1, 1, 1, 1]))
        x = then("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = then("Relu", then("Gemm", then("Flatten", x), *layer("dense"), transB=1))
    latents = then("Gemm", x, *layer("latent"), transB=1)
    x = then("Gemm", latents, *layer("hidden"), transB=1)
    logits = then("Gemm", then("Relu", x) if hidden == "relu" else x, *layer("output"), transB=1)

    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, len(PLANES)])
    outputs = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ["n", None]) for one in (logits, latents)]
    graph = helper.make_graph(nodes, "encoder and classifier", [images], outputs, constants)
    # Operators of 2021 and a format of 2022: old enough for any ONNX Runtime that is still about.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(model.SerializeToString())


def choose_engine(folder: Path, *, wanted: str = "auto", threads: int = 1) -> Choice:
    """Try the engines of this machine on a few batches, compare each with the reference, and take the fastest.

    Once torch is imported it takes about a second. An engine that is broken, or whose answers differ too much, is
    not offered. `wanted` names one engine instead, which is compared as well. Raises `BadInput` when that one is not
    there or not offered, `BrokenRecord` when the model cannot be read.
    """
    names = engines_here()
    if wanted not in ("auto", *names):
        raise BadInput(f"engine {wanted!r}: expected auto or one of {', '.join(names)} on this machine; choose one")
    images = probe_images(PROBED)
    truth, per_second = _tried(load_engine(REFERENCE, folder, threads=threads), images)
    offers, declined = [Offer(name=REFERENCE, per_second=per_second)], list[Declined]()
    for name in names[1:] if wanted == "auto" else [wanted] if wanted != REFERENCE else []:
        try:
            output, per_second = _tried(load_engine(name, folder, threads=threads), images)
            reason = difference(truth, output, tolerance=BF16_TOLERANCE if "bf16" in name else FP32_TOLERANCE)
        except Exception as error:  # a library, a driver or a card that fails must not stop those that work
            reason = f"does not run ({one_line(error)})"
        if reason:
            declined.append(Declined(name=name, reason=reason))
        else:
            offers.append(Offer(name=name, per_second=per_second))
    if wanted != "auto" and offers[-1].name != wanted:
        raise BadInput(f"engine {wanted}: {declined[0].reason}; choose another, or auto")
    chosen = offers[-1] if wanted != "auto" else fastest(offers)
    return Choice(chosen=chosen, offers=tuple(offers), declined=tuple(declined))


def fastest(offers: Sequence[Offer]) -> Offer:
    """The engine to take: the fastest, but torch only where it is much faster than `onnx`.

    >>> fastest([Offer(name="onnx", per_second=4000.0), Offer(name="torch-bf16", per_second=4800.0)]).name
    'onnx'
    """
    return max(offers, key=lambda one: one.per_second * (WORTH_TORCH if one.name == "onnx" else 1.0))


def _tried(engine: Engine, images: Picture) -> tuple[Output, float]:
    """The engine's output for the images, and thumbnails/s of its fastest batch: the first one is slow in all of them."""
    outputs, best = [], 0.0
    for first in range(0, len(images), BATCH):
        batch, begun = images[first : first + BATCH], time.perf_counter()
        outputs.append(engine.run(batch))
        best = max(best, len(batch) / (time.perf_counter() - begun))
    return (np.concatenate([one for one, _ in outputs]), np.concatenate([one for _, one in outputs])), best


def difference(truth: Output, output: Output, *, tolerance: float) -> str:
    """Say how an engine's output differs too much from the reference's; empty if it does not.

    >>> truth = np.array([[1.0, 2.0]], np.float32), np.zeros((1, 50), np.float32)
    >>> difference(truth, (truth[0] + np.float32(0.5), truth[1]), tolerance=0.05)
    'logits differ by up to 0.5, expected at most 0.05'
    """
    for what, a, b in zip(("logits", "latents"), truth, output, strict=True):
        # Latents have no scale of their own: where they are large, so is what rounding does to them.
        scale = 1.0 if what == "logits" else max(1.0, float(np.abs(a).max()))
        worst = float(np.abs(a - b).max()) / scale
        if not worst <= tolerance:  # so that NaN fails as well
            return f"{what} differ by up to {worst:.2g}, expected at most {tolerance:g}"
    equal = float((truth[0].argmax(1) == output[0].argmax(1)).mean())
    if equal < EQUAL_PREDICTIONS:
        return f"{equal:.1%} of the predictions are the reference's, expected {EQUAL_PREDICTIONS:.1%}"
    return ""


def probe_images(n: int) -> Picture:
    """Draw `n` invented thumbnails, uint8 (n, 80, 80, 3): one spot a plane on black, of any size and brightness."""
    rng = np.random.default_rng(20)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    shift, width = rng.normal(0, 3, (2, n, 1, len(PLANES))), rng.uniform(2, 9, (2, n, 1, len(PLANES)))
    down, across = np.exp(-(((axis[None, :, None] - shift) / width) ** 2))
    spots: Picture = (down[:, :, None] * across[:, None] * rng.uniform(0, 240, (n, 1, 1, len(PLANES)))).astype(np.uint8)
    return spots + rng.integers(0, 12, spots.shape, dtype=np.uint8)
