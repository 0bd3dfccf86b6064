"""The stage `ctcml train` as a program of its own: killed, out of disk, out of memory, and with a large training set."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ctcml import stages
from ctcml.errors import CannotTrain
from ctcml.measuring import run_measured
from ctcml.params import load_params
from ctcml.shards import Packed, pack_shard
from ctcml.steps import Stepper
from ctcml.tables import TRUTH, write_table
from ctcml.workspace import Workspace
from tests.factories import a_cell
from tests.test_train import run as run_train

CLASSES = ("ctc", "tdev", "wbc")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # two that wait for each other take ten times as long when a core is busy


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def a_laboratory(root: Path, *, cells: int, samples: int, network: str = "autoencoder", **numbers: Any) -> Workspace:
    """A workspace with what the stage reads: shards of `samples` patients, their labels, `numbers` of the profile."""
    ws = Workspace(root)
    params = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    params["train"]["profiles"]["modern"] |= numbers
    params["train"] |= {"device": "cpu", "network": network}
    ws.derived.mkdir(parents=True)
    ws.params.write_text(yaml.safe_dump(params))
    ws.classes.write_text(json.dumps([{"class_id": one} for one in CLASSES]))
    drawn = [a_cell(np.random.default_rng(number), 40 + number, 36)[:3] for number in range(30)]
    rows = []
    for sample in range(samples):
        packed = [
            Packed(
                cell_uid=f"c{number}", sample_uid=f"s{sample}", object_index=number, planes=("CD45", "DAPI", "CK"),
                pixels=drawn[number % 30][[number % 3, 1, 2]], mask=None, source_bit_depth=12,
                source_order="CD45,DAPI,CK",
            )
            for number in range(sample, cells, samples)
        ]  # fmt: skip
        pack_shard(packed, ws.shards / f"s{sample}.parquet")
        rows += [
            (one.cell_uid, f"s{sample}", f"p{sample}", CLASSES[one.object_index % 3], "train", "training", "agreed")
            for one in packed
        ]
    write_table(pd.DataFrame(rows, columns=list(TRUTH)), TRUTH, ws.truth)
    return ws


def stage(root: Path, wire: Connection) -> None:
    torch.set_num_threads(1)
    ws = Workspace(root)
    params = load_params(ws.params)
    stages.train(ws, seed=params.seed, image=params.image, train=params.train, say=wire.send)


@dataclass(frozen=True)
class Run:
    """The stage in a process of its own, and the lines that it says."""

    process: BaseProcess
    lines: Connection

    def says(self, beginning: str) -> None:
        """Wait for a line that begins like this; EOFError when the run ends before."""
        while not self.lines.recv().startswith(beginning):
            pass

    def rest(self) -> int:
        """Let it run to its end; the number of epochs that it trained until then."""
        epochs = 0
        with suppress(EOFError):
            while True:
                epochs += self.lines.recv().startswith("beta")
        self.process.join()
        assert self.process.exitcode == 0
        return epochs

    def kill(self) -> None:
        assert self.process.is_alive(), "the run had ended before it was killed"
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL


def start(ws: Workspace) -> Run:
    """The stage at the moment when it has read its inputs and begins to train."""
    # One server imports for all processes; an optimiser of torch brings torch._dynamo with it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo", "ctcml.train", "ctcml.truth", "ctcml.shards"])
    lines, wire = context.Pipe(duplex=False)
    process = context.Process(target=stage, args=(ws.root, wire))
    process.start()
    wire.close()
    assert "thumbnails of" in lines.recv()
    return Run(process, lines)


def kill_after(run: Run, epochs: float, seconds_an_epoch: float) -> None:
    """Kill a run so many epochs after its beginning, such as 2.3: it says when one has ended, the rest is waited."""
    for _ in range(int(epochs)):
        run.says("beta")
    time.sleep(epochs % 1 * seconds_an_epoch)
    run.kill()


def kill_within_write(run: Run, ws: Workspace, epochs: int) -> bool:
    """Kill a run while it writes a checkpoint after so many others; whether it left an unfinished one behind."""
    for _ in range(epochs):
        run.says("beta")
    before = unfinished(ws)
    while not (fresh := unfinished(ws) - before) and run.process.is_alive():
        time.sleep(0.0005)
    run.kill()
    return bool(fresh & unfinished(ws))


def unfinished(ws: Workspace) -> set[Path]:
    return set(ws.checkpoints.glob(".*"))


def learnt(ws: Workspace) -> tuple[bytes, list[dict[str, float]]]:
    """What a run ended with: its weights, and its history without the time that it took."""
    history = json.loads((ws.candidate / "history.json").read_text())
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in history]
    return (ws.candidate / "weights.safetensors").read_bytes(), rows


def seconds_an_epoch(ws: Workspace) -> float:
    history = json.loads((ws.candidate / "history.json").read_text())
    return float(np.mean([row["seconds"] for row in history]))


def test_a_run_that_is_killed_twice_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    ws = a_laboratory(tmp_path, cells=48, samples=2, epochs=[1, 1, 2, 1], batch_size=16)
    start(ws).rest()
    whole, seconds = learnt(ws), seconds_an_epoch(ws)
    (ws.candidate / "weights.safetensors").unlink()
    rng = np.random.default_rng(11)
    kill_after(start(ws), 1 + rng.uniform(), seconds)
    kill_within_write(start(ws), ws, int(rng.integers(2)))
    assert start(ws).rest() < 5 - 1, "it began anew"
    assert learnt(ws) == whole
    assert not ws.checkpoints.exists()


@pytest.mark.trial
@pytest.mark.timeout(3600)
def test_twenty_runs_killed_at_random_moments_end_with_the_bits_of_one_that_was_not(
    tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    epochs = [2, 1, 3, 2]
    ws = a_laboratory(tmp_path, cells=96, samples=2, epochs=epochs, batch_size=16)
    start(ws).rest()
    whole, seconds = learnt(ws), seconds_an_epoch(ws)
    rng = np.random.default_rng(12)
    same = within_write = 0
    for number in range(20):
        (ws.candidate / "weights.safetensors").unlink()
        moment = (number + rng.uniform()) / 20 * (sum(epochs) - 1)  # spread over the run
        if number % 4 == 3:
            within_write += kill_within_write(start(ws), ws, int(moment))
        else:
            kill_after(start(ws), moment, seconds)
        assert start(ws).rest() <= sum(epochs) - int(moment), "it trained a stored epoch again"
        same += learnt(ws) == whole
    figure(
        "killed with SIGKILL at a random moment of the training, resumed, bit-identical",
        f"{same} of 20, {within_write} of them while a checkpoint was written (asked: 20 of 20)",
    )
    assert same == 20
    assert within_write >= 3, "the kills that are aimed at a write missed it"


def test_a_disk_that_is_full_costs_one_line_and_no_epoch_that_was_stored(tmp_path: Path) -> None:
    ws = a_laboratory(tmp_path, cells=48, samples=2, epochs=[1, 1, 1, 1], batch_size=16)
    # Weights and moments are 21 MB; after the phase that is kept, the third, its weights are stored too.
    command = [sys.executable, "-m", "ctcml", "train", "--workspace", str(ws.root)]
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (24_000_000,) * 2)"
    full = subprocess.run(
        [sys.executable, "-c", f"{limit}; sys.argv = {command[2:]}; runpy.run_module('ctcml', run_name='__main__')"],
        env=os.environ | ONE_THREAD, capture_output=True, text=True,
    )  # fmt: skip
    assert full.returncode == 1
    assert full.stderr.startswith("ctcml: ")
    assert "make room" in full.stderr
    assert full.stderr.count("\n") == 1
    assert full.stdout.count("\nbeta ") == 2
    (checkpoint,) = ws.checkpoints.iterdir()  # and nothing half-written beside it
    assert checkpoint.suffix == ".safetensors"
    assert start(ws).rest() == 2, "it trained a stored epoch again"


def test_a_gpu_without_memory_is_named_with_what_to_do_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No GPU is needed to see what happens: the error of torch is raised where the GPU would raise it.
    step, steps = Stepper.step, []

    def step_until_full(self: Stepper, *batch: Any) -> Any:
        steps.append(batch)
        if len(steps) == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, *batch)

    monkeypatch.setattr(Stepper, "step", step_until_full)
    with pytest.raises(CannotTrain, match="ran out of memory, the last checkpoint is kept; set a smaller batch_size"):
        run_train(tmp_path)
    monkeypatch.undo()
    lines: list[str] = []
    run_train(tmp_path, progress=lines.append)
    assert next(line for line in lines).startswith("beta 0 (phase 1 of 3), epoch 2 of 2")


def test_a_gpu_that_is_full_before_the_first_step_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ctcml.train.augment", full)
    with pytest.raises(CannotTrain, match="ran out of memory"):
        run_train(tmp_path)


@pytest.mark.trial
@pytest.mark.timeout(3600)
def test_fifty_thousand_thumbnails_are_trained_on_within_three_gigabytes(
    tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    one_phase = {"betas": [100.0], "epochs": [1], "keep_phase": 1, "batch_size": 64}
    ws = a_laboratory(tmp_path, cells=50_000, samples=100, network="standard", **one_phase)
    command = [sys.executable, "-m", "ctcml", "train", "--workspace", str(ws.root)]
    measured = run_measured(command, env=ONE_THREAD)
    figure(
        "peak memory of `ctcml train`, 50,000 thumbnails",
        f"{measured.peak_mb:.0f} MB in {measured.seconds:.0f} s (asked: <= 3 GB)",
    )
    assert measured.peak_mb <= 3000
