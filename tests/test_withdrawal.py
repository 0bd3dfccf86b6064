"""A patient who withdraws is gone from the live data and from later versions, and nothing that is left stumbles over it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from factories import KEY, NOON, a_cell, a_ledger, a_patient, a_queued, a_reading, put, reading_draft
from filelock import FileLock

from ctcml import params, stages
from ctcml.cli import cli
from ctcml.dataversions import create_workspace, new_data_version
from ctcml.errors import BadInput, ProtocolBreach, ServiceDown
from ctcml.identity import load_key, pseudonym
from ctcml.ledger import Draft, Ledger, withdrawn_patients, withdrawn_uid
from ctcml.packing import no_intake
from ctcml.quarantine import set_aside, write_overview
from ctcml.records import PLANES, Purpose
from ctcml.settlement import settle_readings
from ctcml.shards import Packed, pack_shard, read_pixels
from ctcml.tables import (
    CLINICAL,
    COUNTS,
    DISCOVERY,
    EMBEDDING,
    GIVEN_FEATURES,
    MANIFEST,
    QUEUE,
    TRUTH,
    read_folder,
    read_table,
    write_table,
)
from ctcml.thumbnails import Refused
from ctcml.truth import ground_truth
from ctcml.versioning import checkout, files_of, versions
from ctcml.withdrawal import (
    find_held,
    find_patient,
    holding,
    record_withdrawal,
    remove,
    trained_with,
    withdrawn_cells,
)
from ctcml.workspace import Workspace
from labelstudio import rounds
from labelstudio.client import Pull, ReadingQueue
from labelstudio.panels import panels_of, remove_panels, write_panels
from labelstudio.rounds import all_reads, draw_pictures, pull_reads, push_reads, waiting_reads
from labelstudio.tasks import PulledReading, read_uid

PEOPLE = {
    "PAT-1": ("SMP-1", "SMP-1b"),
    "PAT-2": ("SMP-2",),
    "PAT-3": ("SMP-3",),
}  # the laboratory's patients and their samples
ROLES = {"PAT-1": "train", "PAT-2": "train", "PAT-3": "sealed"}


def uid(patient: str, key: bytes = KEY) -> str:
    return pseudonym(key, "patient", patient)


def cells_of(patient: str, key: bytes = KEY) -> list[str]:
    return [pseudonym(key, "cell", sample, str(n)) for sample in PEOPLE[patient] for n in (1, 2, 3)]


def take_in(ws: Workspace, key: bytes = KEY) -> None:
    """What an intake of three patients leaves: two objects a sample, a third in a supplement, features, receipts, refusals."""
    rng = np.random.default_rng(3)
    clinical = []
    for patient, samples in PEOPLE.items():
        for sample in samples:
            sample_uid = pseudonym(key, "sample", sample)
            for ending, numbers in (("", (1, 2)), ("-2", (3,))):
                cells = [pseudonym(key, "cell", sample, str(n)) for n in numbers]
                name = f"{sample_uid}{ending}.parquet"
                packed = [
                    Packed(
                        cell_uid=cell,
                        sample_uid=sample_uid,
                        object_index=n,
                        planes=(*PLANES, "FITC"),
                        pixels=a_cell(rng),
                        mask=None,
                        source_bit_depth=16,
                        source_order="CD45,DAPI,CK,FITC",
                    )
                    for cell, n in zip(cells, numbers, strict=True)
                ]
                rows = {name: [None] * len(cells) for name in MANIFEST} | {
                    "cell_uid": cells,
                    "sample_uid": sample_uid,
                    "patient_uid": uid(patient, key),
                    "object_index": numbers,
                    "content_sha256": [one.content_sha256 for one in packed],
                    "shard_sha256": pack_shard(packed, ws.shards / name),
                }
                write_table(pd.DataFrame(rows), MANIFEST, ws.manifest / name)
                features = pd.DataFrame({"cell_uid": cells, "ch_1_Size": 1.0})
                write_table(features, GIVEN_FEATURES, ws.given_features / name, extra_prefix="ch_")
            ws.receipts.mkdir(parents=True, exist_ok=True)
            (ws.receipts / f"{sample_uid}.json").write_text("{}")
            clinical.append({"sample_uid": sample_uid, "patient_uid": uid(patient, key), "cancer_type": "breast"})
            export = ws.root.parent / "export" / sample
            export.mkdir(parents=True, exist_ok=True)
            (export / f"{sample}_thumb_9.tif").write_bytes(b"half a picture")
            torn = [Refused(file=f"{sample}_thumb_9.tif", reason="truncated")]
            set_aside(torn, source=sample, folder=export, quarantine=ws.quarantine, now=NOON)
    of_export = [Refused(file=f"SMP-{n}", reason="sample was refused") for n in (1, 2)]
    of_export += [Refused(file=f"SMP-{n}/SMP-{n}_thumb_9.tif", reason="stray") for n in (1, 2)]
    set_aside(of_export, source="export", folder=ws.root.parent / "export", quarantine=ws.quarantine, now=NOON)
    write_overview(ws.quarantine)
    table = pd.DataFrame(clinical).reindex(columns=list(CLINICAL)).assign(covariate_simulated="yes")
    write_table(table, CLINICAL, ws.clinical, extra_prefix="covariate_")
    drafts = [a_patient(uid(patient, key), role) for patient, role in ROLES.items()]
    Ledger(ws.ledger).append(drafts, now=NOON)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Data and ledger without git."""
    ws = Workspace(tmp_path / "lab")
    a_ledger(ws.ledger)
    take_in(ws)
    return ws


def everything(ws: Workspace) -> dict[str, bytes]:
    files = [file for file in ws.root.rglob("*") if file.is_file() and file.suffix != ".lock" and file != ws.ledger]
    return {file.relative_to(ws.root).as_posix(): file.read_bytes() for file in files}


def withdraw(ws: Workspace, patient: str, key: bytes = KEY) -> None:
    """The order of the command, without git and servers."""
    held = find_held(ws, uid(patient, key), key=key)
    record_withdrawal(Ledger(ws.ledger), held, key=key, why="letter", data_versions=["data-v1"], now=NOON)
    remove(ws, held, key=key)


def labelled(cell: str, kind: str = "historic_label", purpose: str = "training") -> Draft:
    return Draft(kind=kind, by="lab", body={"cell_uid": cell, "class_id": "ctc", "how": "x", "purpose": purpose})


def frozen(tag: str) -> Draft:
    return Draft(kind="data_version", by="test", body={"tag": tag})


def trained(version: str, tag: str) -> Draft:
    return Draft(kind="training", by="flow", body={"version": version, "data_version": tag})


def queued(cell: str, purpose: str = "training") -> Draft:
    (draft,) = a_queued(cell, purpose=Purpose(purpose))
    return draft


def test_nothing_of_the_patient_stays_and_nothing_of_others_goes(ws: Workspace) -> None:
    before = everything(ws)
    names = [
        *PEOPLE["PAT-1"],
        uid("PAT-1"),
        *cells_of("PAT-1"),
        *(pseudonym(KEY, "sample", one) for one in PEOPLE["PAT-1"]),
    ]
    withdraw(ws, "PAT-1")
    left = everything(ws)
    for name, content in left.items():
        for word in names:
            assert word not in name
            assert word.encode() not in content, (name, word)
    theirs = {name for name in before if any(word in name for word in names)}
    rewritten = {"data/clinical.parquet", "quarantine/refused.csv", "quarantine/export/refused.csv"}
    assert set(before) - set(left) == theirs
    assert {name for name in left if left[name] != before[name]} == rewritten
    assert (
        len(theirs) == 2 * (2 * 3 + 1 + 2) + 1
    )  # shards, manifests, features; receipt; quarantine; one of the export's


def test_other_patients_keep_their_clinical_rows_covariates_and_pixels(ws: Workspace) -> None:
    withdraw(ws, "PAT-1")
    table = read_table(ws.clinical, CLINICAL, extra_prefix="covariate_")
    assert set(table["patient_uid"]) == {uid("PAT-2"), uid("PAT-3")}
    assert set(table["covariate_simulated"]) == {"yes"}
    assert len(read_pixels(ws.shards, pseudonym(KEY, "sample", "SMP-2"))) >= 2
    assert set(read_folder(ws.manifest, MANIFEST)["patient_uid"]) == {uid("PAT-2"), uid("PAT-3")}


def test_what_a_killed_intake_left_unfinished_goes_too(ws: Workspace) -> None:
    torn = ws.shards / f".{pseudonym(KEY, 'sample', 'SMP-1')}.parquet.x7k2"
    torn.write_bytes(b"pixels")
    withdraw(ws, "PAT-1")
    assert not torn.exists()


def test_the_ledger_keeps_the_fact_and_not_the_person(ws: Workspace) -> None:
    withdraw(ws, "PAT-1")
    (event,) = Ledger(ws.ledger).events("withdrawal")
    assert (event.body["samples"], event.body["cells"], event.why) == (2, 6, "letter")
    text = json.dumps(event.body)
    assert not [word for word in ("PAT-1", "SMP-1", uid("PAT-1"), *cells_of("PAT-1")) if word in text]
    assert event.body["withdrawn_uid"] == withdrawn_uid(KEY, uid("PAT-1"))


def test_a_patient_who_withdrew_is_recognised_and_nobody_else(ws: Workspace) -> None:
    everybody = [uid(one) for one in PEOPLE]
    assert withdrawn_patients(Ledger(ws.ledger).events(), KEY, everybody) == set()
    withdraw(ws, "PAT-1")
    assert withdrawn_patients(Ledger(ws.ledger).events(), KEY, everybody) == {uid("PAT-1")}


class Killed(BaseException):
    """Stands for a kill."""


def test_killed_before_any_single_removal_the_next_call_ends_at_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh(name: str) -> Workspace:
        ws = Workspace(tmp_path / name / "lab")
        a_ledger(ws.ledger)
        take_in(ws)
        return ws

    whole = fresh("whole")
    withdraw(whole, "PAT-1")
    unlink = Path.unlink
    for moment in range(100):
        ws, done = fresh(str(moment)), 0

        def counted(self: Path, missing_ok: bool = False, moment: int = moment) -> None:
            nonlocal done
            if done == moment:
                raise Killed
            done += 1
            unlink(self, missing_ok=missing_ok)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", counted)
            try:
                withdraw(ws, "PAT-1")
                break
            except Killed:
                pass
        withdraw(ws, "PAT-1")
        assert everything(ws) == everything(whole), moment
        assert [event.body["cells"] for event in Ledger(ws.ledger).events("withdrawal")] == [6]
    assert moment > 15


def test_a_patient_is_found_by_the_laboratorys_id_or_the_uid_and_an_unknown_one_is_one_line(ws: Workspace) -> None:
    assert find_patient(ws, "PAT-2", key=KEY) == find_patient(ws, uid("PAT-2"), key=KEY) == uid("PAT-2")
    for unknown in ("PAT-9", "0" * 24, ""):
        with pytest.raises(BadInput, match="no such patient was taken in") as caught:
            find_patient(ws, unknown, key=KEY)
        assert "\n" not in str(caught.value)


def test_a_patient_who_is_gone_is_still_known_and_holds_nothing(ws: Workspace) -> None:
    withdraw(ws, "PAT-1")
    held = find_held(ws, find_patient(ws, "PAT-1", key=KEY), key=KEY)
    assert (held.samples, held.cells, held.files, held.quarantined, held.clinical_rows) == ((), (), (), (), 0)


@pytest.mark.parametrize(
    ("drafts", "models"),
    [
        ((labelled("c1"), frozen("data-v1"), trained("1", "data-v1")), ("1",)),
        ((frozen("data-v1"), labelled("c1"), trained("1", "data-v1")), ()),
        ((labelled("c1", "settlement"), frozen("data-v1"), trained("1", "data-v1")), ("1",)),
        ((labelled("c1", "settlement", "evaluation"), frozen("data-v1"), trained("1", "data-v1")), ()),
        ((labelled("other"), frozen("data-v1"), trained("1", "data-v1")), ()),
        (
            (frozen("data-v1"), trained("1", "data-v1"), labelled("c1"), frozen("data-v2"), trained("2", "data-v2")),
            ("2",),
        ),
        ((labelled("c1"), trained("1", "data-v1")), ("1",)),  # a crash lost the event of data-v1
    ],
)
def test_a_model_used_a_patient_if_a_label_was_there_when_its_data_were_frozen(
    tmp_path: Path, drafts: tuple[Draft, ...], models: tuple[str, ...]
) -> None:
    ledger = a_ledger(tmp_path / "l.jsonl", a_patient("p1", "train"), *drafts)
    assert trained_with(ledger.events(), "p1", ["c1", "c2"]) == models


def test_no_model_used_a_patient_of_the_sealed_set(tmp_path: Path) -> None:
    drafts = (a_patient("p1", "sealed"), labelled("c1"), frozen("data-v1"), trained("1", "data-v1"))
    assert trained_with(a_ledger(tmp_path / "l.jsonl", *drafts).events(), "p1", ["c1"]) == ()


def test_supplements_count_as_holding_and_other_samples_do_not() -> None:
    files = {"data-v1": ["shards/ab-2.parquet"], "data-v2": ["manifest/ab.parquet"], "data-v3": ["shards/cd.parquet"]}
    assert holding(files, ["ab"]) == ("data-v1",)
    assert holding(files, []) == ()


def test_an_intake_and_a_withdrawal_do_not_run_at_the_same_time(ws: Workspace) -> None:
    with FileLock(ws.private / "intake.lock"), pytest.raises(ServiceDown, match="an intake is at work"), no_intake(ws):
        pass
    with no_intake(ws):
        pass


# What is left must not stumble over cells that are gone.


def test_the_ground_truth_is_without_cells_of_a_patient_who_withdrew(ws: Workspace) -> None:
    ledger = Ledger(ws.ledger)
    ledger.append([labelled(cell, "settlement") for cell in (*cells_of("PAT-1"), *cells_of("PAT-2"))], now=NOON)
    withdraw(ws, "PAT-1")
    truth = ground_truth(ledger.events(), read_folder(ws.manifest, MANIFEST))
    assert set(truth.cells["cell_uid"]) == set(cells_of("PAT-2"))
    withdraw(ws, "PAT-2")
    withdraw(ws, "PAT-3")
    assert ground_truth(ledger.events(), read_folder(ws.manifest, MANIFEST)).cells.empty


def test_nobody_waits_for_cells_that_are_gone_and_nothing_is_settled_or_contested_about_them(ws: Workspace) -> None:
    gone, here = cells_of("PAT-1"), cells_of("PAT-2")
    reads = [("reader-a", "ctc"), ("reader-b", "wbc")]
    ledger = Ledger(ws.ledger)
    ledger.append([queued(cell) for cell in (*gone, *here)], now=NOON)
    ledger.append([reading_draft(a_reading(gone[0], *one)) for one in reads], now=NOON)
    ledger.append([reading_draft(a_reading(here[0], one, "ctc")) for one, _ in reads], now=NOON)
    withdraw(ws, "PAT-1")
    assert withdrawn_cells(ws) == set(gone)
    outcome = settle_readings(
        ledger,
        rule="adjudicate",
        check_share=0,
        new_class_min=2,
        key=KEY,
        now=NOON,
        withdrawn=withdrawn_cells(ws),
    )
    assert (outcome.settled, outcome.third, outcome.without_third) == (1, (), ())
    assert {one.cell_uid for one in outcome.waiting} == set(here[1:])


def test_cells_that_are_missing_though_nobody_withdrew_stop_the_round(ws: Workspace) -> None:
    Ledger(ws.ledger).append([queued(cell) for cell in cells_of("PAT-1")], now=NOON)
    for file in ws.manifest.iterdir():
        file.unlink()
    with pytest.raises(ProtocolBreach, match="6 queued cells are not in the data, and 0 were withdrawn"):
        withdrawn_cells(ws)


QUEUE_OF_A = ReadingQueue(base_url="http://127.0.0.1:9", token="", project_id=1, reader="reader-a", reader_user_id=1)


def test_a_round_is_pushed_and_pulled_without_cells_that_are_gone(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, here = cells_of("PAT-1"), cells_of("PAT-2")
    ledger = Ledger(ws.ledger)
    ledger.append([queued(cell) for cell in (*gone, *here)], now=NOON)
    withdraw(ws, "PAT-1")
    sent: list[dict[str, str]] = []
    monkeypatch.setattr(rounds, "push", lambda queue, tasks: sent.extend(tasks) or len(tasks))
    waiting = waiting_reads(ws, key=KEY)
    draw_pictures(ws, waiting, {reader: tmp_path / reader for reader in ("reader-a", "reader-b")})
    assert push_reads(QUEUE_OF_A, [one for one in waiting if one.asked.reader == "reader-a"]) == 3
    assert {task["read_uid"] for task in sent} == {read_uid(KEY, cell, "reader-a", "round-1") for cell in here}

    answers = [
        PulledReading(
            read_uid=read_uid(KEY, cell, "reader-a", "round-1"),
            reader="reader-a",
            label="ctc",
            new_name=None,
            confidence=None,
            reasons=(),
            lead_time_s=1.0,
            server="s",
            annotation_id=n,
            answered_at="now",
        )
        for n, cell in enumerate((gone[0], here[0]))
    ]
    brought = Pull(valid=answers, rejected=[], emptied=[], until=NOON)
    monkeypatch.setattr(rounds, "pull", lambda queue, classes, since: brought)
    monkeypatch.setattr(rounds, "progress", lambda queue: (2, 3))
    rounds.server_home(ws, "reader-a").mkdir(parents=True)
    pulled = pull_reads(ws, QUEUE_OF_A, [], key=KEY, now=NOON)
    assert (pulled.new, pulled.open) == (1, 2)
    assert [event.body["cell_uid"] for event in ledger.events("reading")] == [here[0]]


def test_the_next_queue_draws_others_for_evaluation_cells_that_are_gone(ws: Workspace) -> None:
    ledger = Ledger(ws.ledger)
    ledger.append([queued(cells_of("PAT-3")[0], "evaluation"), a_patient("p4", "sealed")], now=NOON)
    withdraw(ws, "PAT-3")
    stages.write_json(
        ws.roles, {event.body["patient_uid"]: event.body["role"] for event in ledger.events("patient_assigned")}
    )
    cells = read_folder(ws.manifest, MANIFEST)["cell_uid"]
    discovery = pd.DataFrame(dict.fromkeys(DISCOVERY, 0), index=range(len(cells))).assign(cell_uid=cells)
    write_table(
        discovery.astype({"cluster_name": str, "in_reference": bool, "shifted": bool, "flagged": bool}),
        DISCOVERY,
        ws.cell_discovery,
    )
    scores = pd.DataFrame(dict.fromkeys(EMBEDDING, ""), index=range(len(cells))).assign(cell_uid=cells)
    for name in ("probabilities", "latent", "reconstruction_error", "appearance"):
        scores[name] = [[1.0]] * len(cells)
    scores["energy"] = -1.0
    write_table(scores, EMBEDDING, ws.embeddings / "all.parquet")
    for schema, path in ((COUNTS, ws.counts), (TRUTH, ws.truth)):
        write_table(pd.DataFrame(columns=list(schema)), schema, path)
    stages.write_json(ws.champion / "model.json", {"classes": ["ctc"]})
    stages.write_json(ws.calibration, {"temperature": 1.0})
    ws.ledger_snapshot.mkdir(parents=True)
    (ws.ledger_snapshot / "1.jsonl").write_bytes(ws.ledger.read_bytes())
    shipped = params.load_params(stages.Path(__file__).parents[1] / "params.yaml")
    stages.query(ws, seed=1, queue=shipped.queue, counts=shipped.counts, say=print)
    assert set(read_table(ws.queue, QUEUE)["cell_uid"]) <= set(cells)
    assert set(read_table(ws.queue, QUEUE)["purpose"]) == {Purpose.TRAINING}


# The command, on a workspace with git, DVC and readers' pictures.


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two data versions; a model was trained on each, and PAT-1 had a label only in the second."""
    ws = Workspace(tmp_path_factory.mktemp("withdrawal") / "lab")
    create_workspace(ws, now=NOON)
    key, ledger = load_key(ws.key), Ledger(ws.ledger)
    take_in(ws, key)
    new_data_version(ws, why="intake", by="test", now=NOON)
    ledger.append([trained("1", "data-v1"), labelled(cells_of("PAT-1", key)[0])], now=NOON)
    ledger.append([queued(cell) for cell in cells_of("PAT-1", key) + cells_of("PAT-2", key)], now=NOON)
    new_data_version(ws, why="labels", by="test", now=NOON)
    ledger.append([trained("2", "data-v2")], now=NOON)
    for reader in ("reader-a", "reader-b"):
        for cell in (cells_of("PAT-1", key)[0], cells_of("PAT-2", key)[0]):
            root = rounds.server_home(ws, reader) / "pictures"
            write_panels(a_cell(np.random.default_rng(1)), {read_uid(key, cell, reader, "round-1"): root})
    return ws


def call(ws: Workspace, *arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--workspace", str(ws.root)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def pictures(ws: Workspace) -> set[Path]:
    return set((ws.services / "labelstudio").rglob("*.png"))


def test_a_dry_run_lists_what_would_go_and_changes_nothing(lab: Workspace) -> None:
    before, head = everything(lab), Ledger(lab.ledger).head()
    told = call(lab, "withdraw", "PAT-1", "--reason", "letter", "--dry-run")
    assert (everything(lab), Ledger(lab.ledger).head()) == (before, head)
    key = load_key(lab.key)
    for name in (f"shards/{pseudonym(key, 'sample', 'SMP-1b')}-2.parquet", "quarantine/SMP-1/files", "-auto.png"):
        assert name in told
    assert "trained with them: 2; earlier data versions: data-v1, data-v2" in told


def test_on_an_older_version_of_the_data_a_withdrawal_asks_for_the_newest_first(lab: Workspace) -> None:
    checkout(lab.root, "data-v1")
    try:
        with pytest.raises(BadInput, match="ctcml checkout data-v2"):
            call(lab, "withdraw", "PAT-1", "--reason", "letter")
    finally:
        checkout(lab.root, "data-v2")
    assert not list(Ledger(lab.ledger).events("withdrawal"))


def test_a_withdrawal_killed_before_its_version_is_finished_by_the_same_command(
    lab: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: object, **_more: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("ctcml.dataversions.new_data_version", killed)
        with pytest.raises(Killed):
            call(lab, "withdraw", "PAT-1", "--reason", "letter")
    told = call(lab, "withdraw", "PAT-1", "--reason", "letter")
    assert "data-v3 is without them" in told
    assert "models trained with them: 2;" in told
    assert "still holding the pixels: data versions data-v1, data-v2," in told
    assert "inbox/" in told
    listed = {one.tag: files_of(lab.root, one) for one in versions(lab.root)}
    samples = [pseudonym(load_key(lab.key), "sample", one) for one in PEOPLE["PAT-1"]]
    assert holding(listed, samples) == ("data-v1", "data-v2")
    (event,) = Ledger(lab.ledger).events("withdrawal")
    assert (event.body["cells"], event.body["models"]) == (6, ["2"])
    key = load_key(lab.key)
    kept = {f"{read_uid(key, cells_of('PAT-2', key)[0], reader, 'round-1')}" for reader in ("reader-a", "reader-b")}
    assert {file.name.split("-")[0] for file in pictures(lab)} == kept


def test_the_same_withdrawal_again_changes_nothing_and_says_the_same(lab: Workspace) -> None:
    before, head = everything(lab), Ledger(lab.ledger).head()
    told = call(lab, "withdraw", uid("PAT-1", load_key(lab.key)), "--reason", "again")
    assert "0 samples, 0 cells, 0 clinical rows" in told
    assert "models trained with them: 2;" in told
    assert Ledger(lab.ledger).head() == head
    assert {name: content for name, content in everything(lab).items() if not name.startswith((".git/", ".dvc/"))} == {
        name: content for name, content in before.items() if not name.startswith((".git/", ".dvc/"))
    }
    assert [one.tag for one in versions(lab.root)] == ["data-v1", "data-v2", "data-v3"]


def test_the_pictures_of_every_round_and_reader_are_found(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "lab")
    a_ledger(ws.ledger, queued("c1"), reading_draft(a_reading("c1", "reader-b", "ctc", occasion="repeat")))
    for reader in ("reader-a", "reader-b"):
        for cell in ("c1", "c2"):
            for occasion in ("round-1", "repeat"):
                root = rounds.server_home(ws, reader) / "pictures"
                write_panels(a_cell(np.random.default_rng(1)), {read_uid(KEY, cell, reader, occasion): root})
    put(ws.services / "labelstudio" / "note.txt", "no home")
    remove_panels(panels_of(all_reads(ws, ["c1"], key=KEY)))
    left = {read_uid(KEY, "c2", reader, one) for reader in ("reader-a", "reader-b") for one in ("round-1", "repeat")}
    assert {file.name.split("-")[0] for file in pictures(ws)} == left
