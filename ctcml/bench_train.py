"""`ctcml bench train`: our training beside the plain way, images a second of the loop itself, in one run, as a ratio.

Both ways train the same network with the same loss and AdamW on the same SIMULATED thumbnails, at the same batch size and
on the same number of threads, each in a program of its own. Start-up, reading, the first epoch (in which libraries warm
up), checkpoints and pictures are left out. The ways take turns and the quickest epoch of each counts: on a machine with
other work it is the one that was disturbed least. There two threads still wait for each other at every layer, so each way
also runs on one thread, where the CPU time it takes says the same whatever else the machine does.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctcml.cells_in_silico import KINDS
from ctcml.drawn_cells import draw_cells
from ctcml.images import to_inputs
from ctcml.measuring import Figure, run_measured
from ctcml.model import ARCHITECTURE, Network, make_model
from ctcml.train import Images, Labels

Say = Callable[[str], None]

THREADS, BATCH_SIZE = 2, 64  # of every way
OBJECTS_PER_PATIENT = 75
# As the profile "modern" of params.yaml where a number touches the time; one phase, in which all of the loss is at work.
NUMBERS: dict[str, Any] = {
    "classes": KINDS, "betas": [100.0], "keep_phase": 1, "batch_size": BATCH_SIZE, "double_every": 0,
    "optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.01, "latent_l2": 0.0001, "reconstruction": "bce",
    "hidden": "linear", "output_bias": "mean_pixel", "channel_weights": [1.0, 1.0, 1.0], "class_weights": "sqrt",
    "jitter": None, "start": None, "recipe": "asinh",
}  # fmt: skip
# The paper's schedule: 75 epochs a phase, 15 at each of five batch sizes. Here two at each, of which the second counts.
PAPER_IMAGES, PAPER_PHASES, EPOCHS_A_SIZE, PAPER_SIZES = 40_515, 3, 15, (16, 32, 64, 128, 256)
PAPER_NUMBERS = NUMBERS | {
    "network": "autoencoder", "optimizer": "adadelta", "learning_rate": 1.0, "weight_decay": 0.0, "augmentation": "paper",
    "batch_size": PAPER_SIZES[0], "double_every": 2, "epochs": [2 * len(PAPER_SIZES)],
}  # fmt: skip

OURS = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np, torch
from ctcml.malloc import keep_freed_memory
from ctcml.steps import Stepper
from ctcml.train import train
folder, task = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.set_num_threads(task["threads"])
keep_freed_memory()  # as the stage does
images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
if task.get("eager"):  # the rate of ADADELTA never changes
    Stepper.step = lambda self, x, targets, rate: self._work(x, targets)
ticks = []
def after_epoch(line):
    if line.startswith("beta"):
        ticks.append(time.process_time())
with tempfile.TemporaryDirectory() as checkpoints:
    began = time.perf_counter()
    trained = train(
        images, labels, checkpoints=Path(checkpoints), device=task.get("device", "cpu"), progress=after_epoch, **task["numbers"])
    whole = time.perf_counter() - began
seconds = [row["seconds"] for row in trained.history]
parameters, autoencoder = sum(w.numel() for w in trained.model.parameters()), task["numbers"]["network"] == "autoencoder"
cpu = np.diff(ticks, prepend=ticks[0]).tolist()  # with the checkpoint
print(json.dumps({"seconds": seconds, "cpu": cpu, "beside": whole - sum(seconds), "parameters": parameters, "autoencoder": autoencoder}))
"""

# What a user would write from the paper: torch's own layers, a Dataset that moves one image at a time as Keras does it
# (scipy, a plane at a time, bilinear), a DataLoader, float32.
PEER = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from scipy.ndimage import affine_transform
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.data import DataLoader, Dataset
from ctcml.augment import augment

folder, task = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.set_num_threads(task["threads"])
torch.manual_seed(task["seed"])
autoencoder, by_image, classes, l2, beta = (task[name] for name in ("autoencoder", "by_image", "classes", "latent_l2", "beta"))

def moved(image, rng):
    angle, zoom, shift = np.radians(rng.uniform(-40, 40)), rng.uniform(0.8, 1.2, 2), rng.uniform(-0.15, 0.15, 2) * 80
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag(zoom)
    offset = np.array([39.5, 39.5]) - turn @ np.array([39.5, 39.5]) + shift
    planes = [affine_transform(plane, turn, offset, order=1, mode="constant") for plane in image.transpose(2, 0, 1)]
    image = np.stack(planes)
    return image[:, :, ::-1].copy() if rng.random() < 0.5 else image

class Thumbnails(Dataset):
    def __init__(self):
        self.images, self.labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
        self.rng = np.random.default_rng(task["seed"])
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        image, label = self.images[index], int(self.labels[index])
        if not by_image:
            return torch.from_numpy(image.transpose(2, 0, 1).copy()), label
        return torch.from_numpy(moved(image.astype(np.float32) / 255, self.rng)), label

encoder = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6400, 208), nn.ReLU(), nn.Linear(208, 50))
classifier = nn.Sequential(nn.Linear(50, classes), nn.Linear(classes, classes))
undense = nn.Sequential(nn.Linear(50, 6400), nn.ReLU(), nn.Unflatten(1, (64, 10, 10)))
decoders = nn.ModuleList(nn.Sequential(
    nn.Upsample(scale_factor=2), nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
    nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(16, 1, 3, padding=1)) for _ in range(3))
parts = nn.ModuleList([encoder, classifier, *([undense, decoders] if autoencoder else [])])
optimizer = torch.optim.AdamW(parts.parameters(), lr=task["learning_rate"], weight_decay=task["weight_decay"])
data = Thumbnails()
weights = 1 / np.sqrt(np.bincount(data.labels, minlength=classes))
weights = torch.tensor(weights / weights.mean(), dtype=torch.float32)
loader = DataLoader(data, batch_size=task["batch_size"], shuffle=True, num_workers=task["workers"])
dice, seconds, cpu = torch.Generator().manual_seed(task["seed"]), [], []
for epoch in range(task["epochs"]):
    began, ticks, total, right = time.perf_counter(), time.process_time(), 0.0, 0
    for x, y in loader:
        if not by_image:
            x = augment(x, kind="paper", generator=dice).float() / 255
        optimizer.zero_grad()
        latent = encoder(x)
        logits = classifier(latent)
        loss = beta * (cross_entropy(logits, y, reduction="none") * weights[y]).mean() + l2 * latent.square().sum(1).mean()
        if autoencoder:
            base = undense(latent)
            drawn = torch.cat([decoder(base) for decoder in decoders], 1)
            loss = loss + binary_cross_entropy_with_logits(drawn, x, reduction="sum") / len(x)
        loss.backward()
        optimizer.step()
        total, right = total + loss.item() * len(x), right + (logits.argmax(1) == y).sum().item()
    seconds.append(time.perf_counter() - began)
    cpu.append(time.process_time() - ticks)
parameters = sum(w.numel() for w in parts.parameters())
print(json.dumps({"seconds": seconds, "cpu": cpu, "parameters": parameters, "autoencoder": autoencoder}))
"""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A program and the task that it is given."""

    name: str
    program: str
    task: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What an epoch of a way takes, in seconds of the clock and of the CPU; what its program takes beside the epochs."""

    epochs: Sequence[float]
    cpu: Sequence[float]
    beside: float  # seconds; 0 when the program does not say
    peak_mb: float

    @property
    def seconds(self) -> float:
        return min(self.epochs[1:])

    @property
    def cpu_seconds(self) -> float:
        """Of an epoch between the first and the last, since that of our last one holds the pictures of the phase."""
        return min(self.cpu[1:-1])


OURS_PAPER, OURS_MILD, OURS_PLAIN = "ours, paper", "ours, mild", "ours, none"  # by augmentation
PLAIN, PLAIN_WORKERS, PLAIN_BATCHED = "plain, an image at a time", "plain, 2 workers", "plain, our augmentation"


def bench_train(
    folder: Path, *, images: int = 3000, epochs: int = 3, turns: int = 2, seed: int, say: Say
) -> list[Figure]:
    """Train on `images` SIMULATED thumbnails below `folder`, `turns` times each way; at least 3 epochs.

    Raises `CtcmlError` when a program fails.
    """
    say(f"drawing {images} simulated thumbnails (not part of any figure)")
    pictures, labels = _drawn(images, seed)
    _write(folder, pictures, labels)
    figures = [Figure(name="each way", value=f"{images} thumbnails, {THREADS} threads, batch {BATCH_SIZE}")]
    networks: tuple[Network, ...] = ("autoencoder", "standard")
    for network in networks:
        best: dict[str, Timed] = {}
        for turn in range(turns):
            for way in _ways(network, epochs, seed, threads=THREADS):
                timed = run_way(way, folder)
                if way.name not in best or timed.seconds < best[way.name].seconds:
                    best[way.name] = timed
                rate = images / timed.seconds
                say(f"{ARCHITECTURE[network]}, {way.name}, turn {turn + 1} of {turns}: {rate:.0f} images/s")
        alone: dict[str, Timed] = {}
        for way in _ways(network, epochs, seed, threads=1):
            if way.name in (OURS_PAPER, PLAIN, PLAIN_BATCHED):
                alone[way.name] = run_way(way, folder)
                cost = 1000 * alone[way.name].cpu_seconds / images
                say(f"{ARCHITECTURE[network]}, {way.name}, one thread: {cost:.2f} ms of CPU an image")
        figures += figures_of(network, images, best, alone)
    if torch.cuda.is_available():
        return figures + _on_gpu(folder, pictures, labels, seed, say)
    return [*figures, Figure(name="GPU: the paper's full schedule", value="not run, none here", asked="<= 10 min")]


def _drawn(images: int, seed: int) -> tuple[Images, Labels]:
    patients = images // OBJECTS_PER_PATIENT * 3 // 2 + 10  # the number of objects of a patient has a long tail
    cells = draw_cells(seed, patients=patients, objects=OBJECTS_PER_PATIENT)[:images]
    pictures = to_inputs([one.restored for one in cells], recipe="asinh", background_percentile=10.0, asinh_scale=60.0)
    return pictures, np.array([KINDS.index(one.kind) for one in cells])


def _write(folder: Path, pictures: Images, labels: Labels) -> None:
    np.save(folder / "images.npy", pictures)
    np.save(folder / "labels.npy", labels)


def _ways(network: Network, epochs: int, seed: int, *, threads: int) -> list[Way]:
    numbers = NUMBERS | {"network": network, "epochs": [epochs], "seed": seed}
    kinds = {OURS_PAPER: "paper", OURS_MILD: "mild", OURS_PLAIN: "none"}
    same = {name: NUMBERS[name] for name in ("latent_l2", "learning_rate", "weight_decay", "batch_size")}
    plain = same | {
        "threads": threads, "seed": seed, "epochs": epochs, "autoencoder": network == "autoencoder",
        "classes": len(KINDS), "beta": NUMBERS["betas"][0],
    }  # fmt: skip
    return [
        *(
            Way(name=name, program=OURS, task={"threads": threads, "numbers": numbers | {"augmentation": kind}})
            for name, kind in kinds.items()
        ),
        Way(name=PLAIN, program=PEER, task=plain | {"by_image": True, "workers": 0}),
        Way(name=PLAIN_WORKERS, program=PEER, task=plain | {"by_image": True, "workers": 2}),
        Way(name=PLAIN_BATCHED, program=PEER, task=plain | {"by_image": False, "workers": 0}),
    ]


def run_way(way: Way, folder: Path) -> Timed:
    """Run a program on the arrays of `folder`; every way trains networks of the same size."""
    run = run_measured([sys.executable, "-c", way.program, str(folder), json.dumps(way.task)])
    said = json.loads(run.said.rsplit(" | ", 1)[-1])
    network: Network = "autoencoder" if said["autoencoder"] else "standard"
    wanted = sum(weights.numel() for weights in make_model(network, len(KINDS)).parameters())
    assert said["parameters"] == wanted, f"{way.name}: {said['parameters']} parameters, not {wanted}"
    return Timed(epochs=said["seconds"], cpu=said["cpu"], beside=said.get("beside", 0.0), peak_mb=run.peak_mb)


def figures_of(network: Network, images: int, timed: Mapping[str, Timed], alone: Mapping[str, Timed]) -> list[Figure]:
    """The rows of one network from the times of its ways, by name: on two threads, and on one."""
    rate = {name: images / one.seconds for name, one in timed.items()}
    cost = {name: one.cpu_seconds for name, one in alone.items()}
    workers, plain = max((0, rate[PLAIN]), (2, rate[PLAIN_WORKERS]), key=lambda one: one[1])
    batched, ours = rate[PLAIN_BATCHED], rate[OURS_PAPER]
    asked = {"autoencoder": (">= 4 x", ""), "standard": (">= 3 x", ">= 2 x")}[network]
    rows = {
        "ours, the paper's augmentation": f"{ours:.0f} images/s",
        "ours, mild augmentation": f"{rate[OURS_MILD]:.0f} images/s",
        "plain, the paper's augmentation an image at a time": f"{plain:.0f} images/s (num_workers={workers}, the quicker of 0 and 2)",
        "plain network, our batched augmentation": f"{batched:.0f} images/s",
        "ratio to the plain way": f"{ours / plain:.1f} x",
        "the same in CPU time of one thread": f"{cost[PLAIN] / cost[OURS_PAPER]:.1f} x",
        "ratio to the plain network, same augmentation": f"{ours / batched:.1f} x",
        "that in CPU time of one thread": f"{cost[PLAIN_BATCHED] / cost[OURS_PAPER]:.1f} x",
        "share of an epoch that augmentation takes": (
            f"paper {1 - ours / rate[OURS_PLAIN]:.0%}, mild {1 - rate[OURS_MILD] / rate[OURS_PLAIN]:.0%}"
        ),
        "beside the epochs (hash of the inputs, checkpoints, pictures)": f"{timed[OURS_PAPER].beside:.1f} s a run",
        "peak memory, ours and plain": f"{timed[OURS_PAPER].peak_mb:.0f} MB and {timed[PLAIN].peak_mb:.0f} MB",
    }
    targets = dict(zip(("ratio to the plain way", "ratio to the plain network, same augmentation"), asked, strict=True))
    return [
        Figure(name=f"{ARCHITECTURE[network]}: {name}", value=value, asked=targets.get(name, ""))
        for name, value in rows.items()
    ]


def _on_gpu(folder: Path, pictures: Images, labels: Labels, seed: int, say: Say) -> list[Figure]:
    """The paper's schedule from epochs measured at each of its batch sizes, on as many images as it had."""
    again = np.resize(np.arange(len(pictures)), PAPER_IMAGES)
    _write(folder, pictures[again], labels[again])
    say(f"GPU: {PAPER_IMAGES} thumbnails (repeated), two epochs at each batch size")
    numbers = PAPER_NUMBERS | {"seed": seed}
    task = {"threads": THREADS, "device": "cuda", "numbers": numbers}
    recorded = run_way(Way(name="recorded", program=OURS, task=task), folder)
    first = task | {"eager": True, "numbers": numbers | {"epochs": [2]}}
    eager = run_way(Way(name="eager", program=OURS, task=first), folder)
    return gpu_figures(recorded.epochs[1::2], eager.epochs[1], gpu=torch.cuda.get_device_name())


def gpu_figures(seconds: Sequence[float], eager: float, *, gpu: str) -> list[Figure]:
    """Rows from the seconds of an epoch at each batch size, and of an epoch of the smallest whose steps are not recorded."""
    whole = PAPER_PHASES * EPOCHS_A_SIZE * sum(seconds)
    rates = ", ".join(f"{PAPER_IMAGES / one:.0f} at {size}" for size, one in zip(PAPER_SIZES, seconds, strict=True))
    return [
        Figure(
            name=f"GPU: {PAPER_IMAGES} images x 75 epochs x {PAPER_PHASES} phases, from measured epochs",
            value=f"{whole / 60:.1f} min on {gpu}",
            asked="<= 10 min",
        ),
        Figure(name="GPU: images/s by batch size", value=rates),
        Figure(
            name=f"GPU: share of an eager step at batch {PAPER_SIZES[0]} that goes into launching it",
            value=f"{max(1 - seconds[0] / eager, 0):.0%} (a recorded step is {eager / seconds[0]:.1f} times as fast)",
        ),
    ]
