"""Real git and real DVC, in workspaces under pytest's temporary folder."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from factories import put

from ctcml import versioning
from ctcml.errors import BadInput, BrokenRecord, CtcmlError
from ctcml.fingerprints import fingerprints

PACKAGE = Path(versioning.__file__).parent
FINGERPRINT = "import sys, yaml; from pathlib import Path; from ctcml.fingerprints import fingerprints; "
FINGERPRINT += "Path('code.yaml').write_text(yaml.safe_dump(fingerprints(Path('dvc.yaml'), Path('code/ctcml'))))"
MODULES = {
    "stages.py": "from ctcml import tables\n\n\ndef train():\n    from ctcml.network import fit\n    fit()\n\n\n"
    "def survive():\n    from ctcml.survival import analyse\n    return analyse, tables\n",
    "network.py": "from ctcml.layers import layer\n",
    "layers.py": "layer = 1\n",
    "survival.py": "analyse = 1\n",
    "tables.py": "STR = 1\n",
}
PIPELINE = f"""
stages:
  survive:
    cmd: cp models.txt survival.txt
    deps: [models.txt]
    params: [{{code.yaml: [survive]}}]
    outs: [survival.txt]
  train:
    cmd: echo "one cell" && cat data/cells.txt > models.txt
    deps: [data/cells.txt]
    params: [epochs, {{code.yaml: [train]}}]
    outs: [models.txt]
  fingerprint:
    cmd: {sys.executable} fingerprint.py
    always_changed: true
    outs:
      - code.yaml: {{cache: false}}
  fail:
    cmd: echo "Error nobody needs"; echo "ctcml - class tdev has no image; read cells of it" >&2; exit 3
    params: [epochs]
    outs: [never.txt]
  sleep:
    cmd: {sys.executable} -c "import time; print('asleep', flush=True); time.sleep(600)"
    params: [epochs]
    outs: [dream.txt]
"""


def new_workspace(folder: Path) -> Path:
    source, root = folder / "source", folder / "laboratory"
    source.mkdir()
    (source / "dvc.yaml").write_text(PIPELINE)
    (source / "params.yaml").write_text("epochs: 3\n")
    versioning.init_workspace(root, source)
    (root / "code" / "ctcml").mkdir(parents=True)
    for name, text in MODULES.items():
        (root / "code" / "ctcml" / name).write_text(text)
    (root / "fingerprint.py").write_text(FINGERPRINT)
    (root / "data").mkdir()
    put(root / "data" / "cells.txt", "cell 1\n")
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two data versions, for tests that only look, or leave it as it was."""
    root = new_workspace(tmp_path_factory.mktemp("kept"))
    versioning.commit_data_version(root, message="first export")
    put(root / "data" / "cells.txt", "cell 1\ncell 2\n")
    (root / "ledger").mkdir()
    (root / "ledger" / "ledger.jsonl").write_text("1\n2\n")
    versioning.commit_data_version(root, message="second export")
    return root


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def test_a_new_workspace_has_git_dvc_and_a_first_commit_without_anything_private(kept: Path) -> None:
    tracked = git(kept, "ls-files").split()
    assert {"dvc.yaml", "params.yaml", ".gitignore", ".dvc/config", "data.dvc"} <= set(tracked)
    assert not [name for name in tracked if name.startswith((".ctcml", "data/", "inbox", "ledger/ledger.jsonl"))]
    assert (kept / ".ctcml").stat().st_mode & 0o077 == 0
    assert git(kept, "branch", "--show-current").strip() == "main"


def test_a_folder_that_holds_something_is_not_made_a_workspace(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name another folder"):
        versioning.init_workspace(kept, tmp_path)


def test_outside_a_workspace_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="ctcml init"):
        versioning.repro(tmp_path, ["train"])
    with pytest.raises(BadInput, match="take in an export"):
        versioning.data_md5(tmp_path)


def test_each_change_of_the_data_is_one_version_and_no_change_is_none(kept: Path) -> None:
    first, second = versioning.versions(kept)
    assert (first.tag, second.tag) == ("data-v1", "data-v2")
    assert first.data_md5 != second.data_md5 == versioning.data_md5(kept)
    assert versioning.commit_data_version(kept, message="nothing new") == second
    assert len(versioning.versions(kept)) == 2


def test_an_old_version_comes_back_and_the_living_ledger_is_not_shortened(kept: Path) -> None:
    versioning.checkout(kept, "data-v1")
    assert (kept / "data" / "cells.txt").read_text() == "cell 1\n"
    assert (kept / "ledger" / "ledger.jsonl").read_text() == "1\n2\n"
    versioning.checkout(kept, "data-v2")
    assert (kept / "data" / "cells.txt").read_text() == "cell 1\ncell 2\n"


def test_work_that_is_in_no_version_is_not_overwritten(kept: Path) -> None:
    put(kept / "data" / "cells.txt", "cell 1\ncell 2\ncell 3\n")
    with pytest.raises(CtcmlError, match="in no version"):
        versioning.checkout(kept, "data-v1")
    assert "cell 3" in (kept / "data" / "cells.txt").read_text()
    put(kept / "data" / "cells.txt", "cell 1\ncell 2\n")


@pytest.mark.parametrize("version", ["data-v9", "HEAD", "--help"])
def test_an_unknown_version_is_refused_with_the_known_ones(kept: Path, version: str) -> None:
    with pytest.raises(BadInput, match="data-v1, data-v2"):
        versioning.checkout(kept, version)


def test_a_version_is_still_there_when_the_local_cache_is_lost(kept: Path) -> None:
    cache = kept / ".dvc" / "cache"
    cache.rename(kept / ".dvc" / "lost")
    versioning.checkout(kept, "data-v1")
    assert (kept / "data" / "cells.txt").read_text() == "cell 1\n"
    versioning.checkout(kept, "data-v2")


def test_a_commit_takes_the_named_files_and_nothing_else(kept: Path) -> None:
    (kept / "reports").mkdir()
    (kept / "reports" / "gate.json").write_text("{}")
    (kept / "ledger" / "head.json").write_text("{}")
    (kept / "params.yaml").write_text("epochs: 3 # being edited\n")
    git(kept, "add", "params.yaml")
    made = versioning.commit(kept, "Gate", ["reports", Path("ledger/head.json")])
    assert git(kept, "show", "--name-only", "--format=", made).split() == ["ledger/head.json", "reports/gate.json"]
    assert versioning.commit(kept, "Gate", ["reports"]) == made
    git(kept, "checkout", "HEAD", "params.yaml")


def test_two_commits_at_the_same_moment_wait_for_each_other(kept: Path) -> None:
    files = [kept / "reports" / f"gate-{number}.json" for number in range(4)]
    files[0].parent.mkdir(exist_ok=True)
    for file in files:
        file.write_text("{}")
    with ThreadPoolExecutor() as together:
        made = list(together.map(lambda file: versioning.commit(kept, file.name, [file]), files))
    assert len(set(made)) == 4


def test_a_champion_is_tracked_and_its_pointer_can_be_committed(kept: Path) -> None:
    champion = kept / "models" / "champion"
    champion.mkdir(parents=True)
    (champion / "model.json").write_text("{}")
    pointer = versioning.track(kept, champion)
    assert pointer == kept / "models" / "champion.dvc"
    versioning.commit(kept, "Champion", [pointer])
    assert "models/champion.dvc" in git(kept, "ls-files")
    assert "models/champion/model.json" not in git(kept, "ls-files")


def test_a_pointer_that_is_no_longer_one_is_a_broken_record(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs: []\n")
    with pytest.raises(BrokenRecord, match="git checkout"):
        versioning.data_md5(tmp_path)


def test_a_changed_module_reruns_exactly_the_stages_that_use_it(tmp_path: Path) -> None:
    """The edge from the always-changed stage's output to the parameter that names it is DVC's own."""
    root = new_workspace(tmp_path)
    versioning.commit_data_version(root, message="first export")
    lines: list[str] = []
    assert versioning.repro(root, ["survive"], on_line=lines.append) == ["fingerprint", "train", "survive"]
    assert "one cell" in lines
    assert versioning.repro(root, ["survive"]) == ["fingerprint"]
    with (root / "code" / "ctcml" / "survival.py").open("a") as module:
        module.write("# another way of counting ties\n")
    assert versioning.repro(root, ["survive"]) == ["fingerprint", "survive"]
    with (root / "code" / "ctcml" / "layers.py").open("a") as module:  # reached only through network.py
        module.write("# wider\n")
    assert versioning.repro(root, ["survive"]) == ["fingerprint", "train"]  # same model, so nothing to do after it
    assert versioning.repro(root, ["train"], force=True) == ["fingerprint", "train"]


def test_a_failed_stage_is_named_with_its_own_last_words(kept: Path) -> None:
    with pytest.raises(CtcmlError, match=r"^stage fail: ctcml - class tdev has no image; read cells of it$"):
        versioning.repro(kept, ["fail"])


def test_an_unknown_stage_is_one_line(kept: Path) -> None:
    with pytest.raises(CtcmlError, match=r"stage trian: .*trian") as caught:
        versioning.repro(kept, ["trian"])
    assert "\n" not in str(caught.value)


def test_an_interrupted_run_leaves_no_stage_behind(kept: Path) -> None:
    def interrupt(line: str) -> None:
        if line == "asleep":
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        versioning.repro(kept, ["sleep"], on_line=interrupt)
    assert time.monotonic() - begun < 60
    assert not [process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(kept)]


def test_the_code_commit_says_when_the_tree_is_dirty(tmp_path: Path) -> None:
    assert versioning.code_commit(tmp_path) is None
    (tmp_path / "ctcml").mkdir()
    (tmp_path / "ctcml" / "__init__.py").touch()
    git(tmp_path, "init", "--quiet")
    assert versioning.code_commit(tmp_path) is None
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "one")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    assert versioning.code_commit(tmp_path) == head
    (tmp_path / "ctcml" / "__init__.py").write_text("x = 1\n")
    assert versioning.code_commit(tmp_path) == f"{head}-dirty"


def mini_package(folder: Path) -> tuple[Path, Path]:
    package = folder / "ctcml"
    package.mkdir(parents=True)
    for name, text in MODULES.items():
        (package / name).write_text(text)
    (folder / "dvc.yaml").write_text(PIPELINE)
    return folder / "dvc.yaml", package


def test_a_fingerprint_follows_imports_and_the_names_used_in_stages(tmp_path: Path) -> None:
    pipeline, package = mini_package(tmp_path)
    before = fingerprints(pipeline, package)
    assert set(before) == {"survive", "train"}

    def changed() -> set[str]:
        now = fingerprints(pipeline, package)
        return {stage for stage in now if now[stage] != before[stage]}

    (package / "tables.py").write_text("STR = 2\n")  # named at the head of stages.py, used by one stage
    assert changed() == {"survive"}
    (package / "tables.py").write_text(MODULES["tables.py"])
    (package / "layers.py").write_text("layer = 2\n")
    assert changed() == {"train"}
    (package / "layers.py").write_text(MODULES["layers.py"])
    (package / "stages.py").write_text("# a remark\n" + MODULES["stages.py"])
    assert changed() == set()


def test_a_stage_without_its_function_is_refused(tmp_path: Path) -> None:
    pipeline, package = mini_package(tmp_path)
    pipeline.write_text(PIPELINE.replace("  train:", "  learn:").replace("[train]", "[learn]"))
    with pytest.raises(BadInput, match="'learn' has no function"):
        fingerprints(pipeline, package)


def test_every_stage_of_the_real_pipeline_has_a_fingerprint_of_its_own() -> None:
    hashes = fingerprints(PACKAGE.parent / "dvc.yaml", PACKAGE)
    assert {"settle", "train", "embed", "cluster", "count", "survive"} <= set(hashes)
    assert len(set(hashes.values())) == len(hashes)
    assert json.dumps(hashes) == json.dumps(fingerprints(PACKAGE.parent / "dvc.yaml", PACKAGE))
