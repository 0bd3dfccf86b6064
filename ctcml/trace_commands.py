"""`ctcml trace`: from a count to its cells, on the screen or as one signed file, and the check of such a file."""

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ctcml.options import workspace_option
from ctcml.telling import say
from ctcml.workspace import Workspace

if TYPE_CHECKING:
    from ctcml.trace import Trace, TracedCell


@click.command("trace")
@click.argument("sample", required=False)
@click.option("--class", "class_id", default="ctc", show_default=True, help="The class that was counted.")
@click.option("--among", type=click.Choice(["proposed", "all"]), default="proposed", show_default=True)
@click.option("--threshold", default=0.0, show_default=True, help="0 counts by the most probable class alone.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="One signed file for an archive (.zip).")
@click.option("--verify", type=click.Path(path_type=Path, dir_okay=False), help="Say whether such a file is whole.")
@workspace_option
def trace_command(
    sample: str | None,
    class_id: str,
    among: str,
    threshold: float,
    out: Path | None,
    verify: Path | None,
    ws: Workspace,
) -> None:
    """Go from the count of a SAMPLE to its very cells, each verified down to its pixels.

    SAMPLE is a sample_uid, the beginning of one, or the laboratory's own name of it, which is written nowhere. Who traced
    is told in the audit log. A file holds pixels of a patient: keep it as you keep those.

    Example: ctcml trace 571e88 --out trace.zip --workspace my-lab
    """
    if (sample is None) == (verify is None):
        raise click.UsageError("give a SAMPLE, or a file with --verify")
    if verify is not None:
        _verify(verify, ws)
        return
    from ctcml.trace import find_sample, trace_count

    assert sample is not None
    found = trace_count(ws, find_sample(ws, sample), class_id=class_id, denominator=among, threshold=threshold)
    about = {"sample_uid": found.sample_uid, "class": class_id, "among": among, "threshold": threshold}
    _tell(ws, "view" if out is None else "export", about)
    for line in lines_of(found):
        say(line)
    if out is not None:
        _write(ws, found, out)


def _tell(ws: Workspace, action: str, about: dict[str, Any]) -> None:
    from ctcml.audit import record

    record(
        ws, who=getpass.getuser(), role="owner", action=action, what="ctcml trace", about=about, now=datetime.now(UTC)
    )


def lines_of(found: "Trace") -> list[str]:
    """A trace as a table of text, under the count that it explains."""
    row, model = found.count, found.model
    head = [
        f"sample {found.sample_uid} of patient {found.patient_uid} ({row['cancer_type']})"
        + (", SIMULATED" if found.simulated else ""),
        f"{row['count']} {found.class_name} among {row['events']} events ({found.denominator}), "
        f"{row['per_7_5_ml']:.4g} per 7.5 ml ({row['low']:.3g} to {row['high']:.3g}), side: {row['side']}",
        f"model version {model.version} ({model.weights_sha256[:12]}), {found.data_version}, code {found.code_commit[:12]}",
        f"{len(found.cells)} cells, in shards: {found.shards_verified}; all hashed anew and as intake wrote them down",
    ]
    if found.labels_sealed:
        head.append("labels of this patient's cells are sealed")
    rows: list[tuple[str, ...]] = [("", "cell", "p", "called", "settled", "readers", "cluster", "frame", "pixels")]
    rows += [_row(number, one, found) for number, one in enumerate(found.cells, start=1)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    table = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*head, *(table if found.cells else [])]


def _row(number: int, one: "TracedCell", found: "Trace") -> tuple[str, ...]:
    settled = f"{one.settled[0]} ({one.settled[1]})" if one.settled else "sealed" if found.labels_sealed else "-"
    readers = ", ".join(f"{said.reader} {said.label}" for said in one.readings)
    return (
        str(number),
        one.cell_uid,
        f"{one.probability:.3f}",
        one.predicted,
        settled,
        readers or "-",
        one.cluster_name or "-",
        "-" if one.frame is None else str(one.frame),
        one.content_sha256[:12],
    )


def _write(ws: Workspace, found: "Trace", out: Path) -> None:
    from ctcml.tables import atomic_path
    from ctcml.trace_file import signed_trace

    content = signed_trace(ws, found, now=datetime.now(UTC))
    with atomic_path(out) as unfinished:
        unfinished.write_bytes(content)
    out.chmod(0o600)  # pixels of a patient
    say(f"{out}: {len(content) / 1e6:.1f} MB, signed; `ctcml trace --verify {out}` says whether it is whole")


def _verify(file: Path, ws: Workspace) -> None:
    from ctcml.identity import load_key
    from ctcml.trace_file import verify_trace

    record = verify_trace(file, load_key(ws.key))
    say(
        f"{file}: whole, signed with this workspace's key; {record['count']['count']} {record['class_id']} of sample "
        f"{record['sample_uid']}, traced {record['made']}, {record['data_version']}"
    )
