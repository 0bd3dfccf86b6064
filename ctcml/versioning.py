"""The only module that knows DVC and git: the workspace's versions of data, its pipeline runs and its commits.

DVC is called as a program (its Python interface is declared stable for reading only) and under one lock per workspace,
so that an intake, a retraining and a person at the keyboard wait for each other. All versions lie in the workspace's own
store; where the deployment names a bucket, they lie there as well, and come from there to a clone on another machine.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from filelock import FileLock, Timeout

from ctcml.deployment import read_deployment
from ctcml.errors import BadInput, BrokenRecord, CtcmlError, ServiceDown
from ctcml.services import clean_environment
from ctcml.tables import atomic_path
from ctcml.warden import end
from ctcml.workspace import Workspace

DATA_FILE = "data.dvc"
STORE = Path(".ctcml") / "dvc-remote"  # all data versions and the tracked models, by MD5
DISTANT = "distant"  # DVC's name for the bucket of the deployment, beside `store`
TAG = "data-v"
LOCK_WAIT_S = 1800

GITIGNORE = """\
# private, or as it came
/.ctcml/
/inbox/
/quarantine/
# the readers' desk, made anew after each pull
/review/
# versioned by DVC
/data/
/derived/
/pictures/
/models/candidate/
/models/chart/
/models/replay.json
/models/champion/
/models/start/
# of the living ledger, git keeps only the anchor
/ledger/*
!/ledger/head.json
"""
DVCIGNORE = "/.ctcml\n/inbox\n/quarantine\n/ledger\n/review\n"
# Linked, a file below data/ is not copied into the cache a second time. It is then read-only: whatever writes there must
# write a new file and rename it, as all of ours does.
DVC_CONFIG = """\
[cache]
    type = "reflink,hardlink,copy"
[core]
    analytics = false
    check_update = false
    autostage = false
    remote = store
['remote "store"']
    url = ../.ctcml/dvc-remote
"""


@dataclass(frozen=True)
class DataVersion:
    """One version of everything below `data/`: a commit of the workspace, DVC's hash and the tag `data-v<N>`."""

    commit: str
    data_md5: str
    tag: str

    @property
    def number(self) -> int:
        """
        >>> DataVersion(commit="c0ffee", data_md5="0.dir", tag="data-v12").number
        12
        """
        return int(self.tag.removeprefix(TAG))


def init_workspace(root: Path, source: Path) -> None:
    """Make a laboratory's folder with git and DVC from the `dvc.yaml` and `params.yaml` of `source`.

    Raises `BadInput` when `root` is there and not empty.
    """
    if root.exists() and (not root.is_dir() or {one.name for one in root.iterdir()} - {".ctcml"}):
        raise BadInput(f"{root}: expected a new or empty folder; it holds something already; name another folder")
    root.mkdir(parents=True, exist_ok=True)
    (root / ".ctcml").mkdir(mode=0o700, exist_ok=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(source / name, root / name)
    (root / ".gitignore").write_text(GITIGNORE, encoding="utf-8")
    _git(root, "init", "--quiet", "--initial-branch=main")
    _ensure_author(root)
    _dvc(root, "init", "--quiet")
    (root / ".dvc" / "config").write_text(DVC_CONFIG, encoding="utf-8")
    (root / ".dvcignore").write_text(DVCIGNORE, encoding="utf-8")
    _commit(root, "New workspace", [".gitignore", ".dvc", ".dvcignore", "dvc.yaml", "params.yaml"])


def commit_data_version(root: Path, *, message: str) -> DataVersion:
    """Make what lies below `data/` the newest version; without a change the newest version is returned again."""
    with _lock(root):
        _add_and_push(root, "data")  # pushed before the tag: a version that has one can be brought back
        former = versions(root)
        if former and former[-1].data_md5 == data_md5(root):
            return former[-1]
        commit_id = _commit(root, message, [DATA_FILE])
        tag = f"{TAG}{former[-1].number + 1 if former else 1}"
        _git(root, "tag", "--annotate", "--message", message, tag, commit_id)
        return DataVersion(commit_id, data_md5(root), tag)


def versions(root: Path) -> list[DataVersion]:
    """All data versions, oldest first."""
    tags = _git(root, "tag", "--list", f"{TAG}*").split()
    numbered = sorted((tag for tag in tags if re.fullmatch(rf"{TAG}\d+", tag)), key=lambda tag: int(tag[len(TAG) :]))
    return [
        DataVersion(
            _git(root, "rev-list", "-n", "1", tag).strip(), _md5(_git(root, "show", f"{tag}:{DATA_FILE}"), tag), tag
        )
        for tag in numbered
    ]


def checkout(root: Path, version: str) -> DataVersion:
    """Bring back the data of a version such as `data-v3`; the living ledger lies outside `data/` and stays whole.

    Raises `BadInput` for an unknown version, and `CtcmlError` when `data/` holds something that is in no version.
    """
    known = {each.tag: each for each in versions(root)}
    if version not in known:
        raise BadInput(f"data version {version!r}: expected one of {', '.join(known) or 'none yet'}; name one of these")
    with _lock(root):
        if _data_changed(root):
            raise CtcmlError(f"{root / 'data'}: holds changes that are in no version; make a version of them first")
        with atomic_path(root / DATA_FILE) as unfinished:
            unfinished.write_text(_git(root, "show", f"{version}:{DATA_FILE}"), encoding="utf-8")
        _fetch_distant(root, DATA_FILE)
        _dvc(root, "pull", "--quiet", "--force", DATA_FILE)
    return known[version]


def files_of(root: Path, version: DataVersion) -> dict[str, str]:
    """The MD5 of each file of a data version, by its path below `data/`; `BrokenRecord` when the list is lost."""
    try:
        listed = json.loads(_in_store(root, version.data_md5).read_text(encoding="utf-8"))
        return {str(one["relpath"]): str(one["md5"]) for one in listed}
    except (OSError, ValueError, KeyError, TypeError):
        raise BrokenRecord(
            f"{version.tag}: its list of files is not in {root / STORE}; bring the store back with `dvc push` or from a backup"
        ) from None


def verify_store(root: Path) -> int:
    """Read every file of every data version in the store; returns how many, `BrokenRecord` names the first that is wrong."""
    held: set[str] = set()
    for version in versions(root):
        for md5 in {version.data_md5, *files_of(root, version).values()} - held:
            path = _in_store(root, md5)
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "md5").hexdigest()
            except OSError:
                found = "nothing"
            if found != md5.removesuffix(".dir"):
                raise BrokenRecord(
                    f"{version.tag}: {path} holds {found}; bring the store back with `dvc push` or from a backup"
                )
            held.add(md5)
    return len(held)


def require_newest(root: Path) -> None:
    """`BadInput` when `data/` was brought back to an older version, and a change would be made to that one."""
    known = versions(root)
    in_place = data_in_place(root)
    if in_place and in_place != known[-1].tag:
        raise BadInput(f"{root}: data/ is {in_place}, not {known[-1].tag}; run `ctcml checkout {known[-1].tag}` first")


def data_in_place(root: Path) -> str | None:
    """The version that `data/` was last brought to; none before the first, or while a new one is being made."""
    if not (root / DATA_FILE).exists():
        return None
    return {each.data_md5: each.tag for each in versions(root)}.get(data_md5(root))


def data_changed(root: Path) -> bool:
    """Whether `data/` holds something that is in no version."""
    if data_in_place(root) is None:
        return (root / "data").is_dir()
    with _lock(root):
        return _data_changed(root)


def uncommitted(root: Path) -> list[Path]:
    """Files that git would keep and that differ from its last commit, below `root`."""
    names = _git(root, "ls-files", "-z", "--modified", "--others", "--exclude-standard").split("\0")
    return sorted({Path(name) for name in names if name and (root / name).is_file()})


def bundle(root: Path, path: Path) -> str:
    """Write the workspace's whole git into one file; returns the name of its branch."""
    _git(root, "bundle", "create", "--quiet", str(path), "--all")
    return _git(root, "branch", "--show-current").strip()


def unbundle(root: Path, path: Path, branch: str) -> None:
    """Make the folder `root` a workspace again from what `bundle` wrote, with all its commits and tags."""
    _git(root, "init", "--quiet", f"--initial-branch={branch}")
    _git(root, "config", "core.symlinks", "false")  # a link could point out of the folder
    _git(root, "fetch", "--quiet", "--update-head-ok", str(path), "+refs/*:refs/*")
    _git(root, "reset", "--quiet", "--hard")
    _ensure_author(root)


def pull_tracked(root: Path) -> None:
    """Bring back the files and folders that were given to DVC with `track`."""
    pointers = [name for name in _git(root, "ls-files", "-z", "*.dvc").split("\0") if name and name != DATA_FILE]
    with _lock(root):
        if pointers:
            _fetch_distant(root, *pointers)
            _dvc(root, "pull", "--quiet", *pointers)


def data_md5(root: Path) -> str:
    """DVC's hash of everything below `data/`, as last added."""
    try:
        return _md5((root / DATA_FILE).read_text(encoding="utf-8"), str(root / DATA_FILE))
    except FileNotFoundError:
        raise BadInput(f"{root}: no version of the data yet; take in an export first") from None


def track(root: Path, path: Path) -> Path:
    """Give a file or folder that no stage makes (such as the champion) to DVC; returns the `.dvc` file to commit."""
    inside = path.relative_to(root) if path.is_absolute() else path
    pointer = inside.with_name(inside.name + ".dvc")
    with _lock(root):
        _add_and_push(root, str(inside))
        _git(root, "add", "--", str(pointer))
    return root / pointer


def commit(root: Path, message: str, paths: Iterable[Path | str]) -> str:
    """Commit these files of the workspace and nothing else; returns the commit, the present one if nothing changed."""
    with _lock(root):
        return _commit(root, message, [str(path) for path in paths])


def former_texts(root: Path, path: Path) -> list[tuple[str, str]]:
    """Every text that a file of one line has had in the workspace's git, newest first, each with its commit."""
    commit, found = "", []
    said = _git(root, "log", "--no-color", "--format=commit %h", "--patch", "--unified=0", "--", path.as_posix())
    for line in said.splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line.startswith("+") and not line.startswith("+++"):
            found.append((commit, line[1:]))
    return found


def repro(
    root: Path, stages: list[str], *, force: bool = False, on_line: Callable[[str], None] | None = None
) -> list[str]:
    """Bring stages and what they need up to date; returns those that really ran, in order.

    With `force` the named stages run even if nothing changed. Each line of the stages' output goes to `on_line`. Raises
    `CtcmlError` with the failing stage's own last line.
    """
    with _lock(root):
        ran = _repro(root, stages, on_line)
        again = [stage for stage in stages if force and stage not in ran]
        return ran + (_repro(root, ["--force", "--single-item", *again], on_line) if again else [])


def code_commit(source: Path) -> str | None:
    """The commit of a source tree, with `-dirty` when files differ from it; none when git does not know the tree."""
    if not _git_answers(source, "ls-files", "--error-unmatch", "ctcml/__init__.py"):
        return None
    changed = _git(source, "status", "--porcelain", "--untracked-files=no").strip()
    return _git(source, "rev-parse", "HEAD").strip() + ("-dirty" if changed else "")


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    if not (root / ".dvc").is_dir():
        raise BadInput(f"{root}: not a workspace; run `ctcml init` to make one")
    (root / ".ctcml").mkdir(mode=0o700, exist_ok=True)  # a clone has none
    try:
        with FileLock(root / ".ctcml" / "versioning.lock", timeout=LOCK_WAIT_S):
            yield
    except Timeout:
        raise ServiceDown(
            f"{root}: another command has held it for {LOCK_WAIT_S // 60} minutes; end that one"
        ) from None


def _md5(pointer: str, what: str) -> str:
    try:
        return str(yaml.safe_load(pointer)["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        raise BrokenRecord(
            f"{what}: not a DVC pointer with an md5; bring it back with `git checkout {DATA_FILE}`"
        ) from None


def _data_changed(root: Path) -> bool:
    if not (root / "data").exists():  # a fresh clone or restore: DVC would first fetch all to say the same
        return False
    state = _dvc(root, "status", DATA_FILE)
    if "not in cache" in state:  # then DVC cannot compare
        _fetch_distant(root, DATA_FILE)
        _dvc(root, "fetch", "--quiet", DATA_FILE)
        state = _dvc(root, "status", DATA_FILE)
    return "modified" in state


def _in_store(root: Path, md5: str) -> Path:
    return root / STORE / "files" / "md5" / md5[:2] / md5[2:]


def _ensure_author(root: Path) -> None:
    """Give commits an author where this machine has none."""
    if not _git_answers(root, "config", "user.email"):
        _git(root, "config", "user.name", "ctcml")
        _git(root, "config", "user.email", "ctcml@localhost")


def _commit(root: Path, message: str, paths: list[str]) -> str:
    _git(root, "add", "--", *paths)
    if _git(root, "diff", "--cached", "--name-only", "--", *paths).strip():
        _git(root, "commit", "--quiet", "--message", message, "--", *paths)
    return _git(root, "rev-parse", "HEAD").strip()


def _git(root: Path, *arguments: str) -> str:
    done = _run(root, "git", *arguments)
    if done.returncode:
        raise CtcmlError(f"git {arguments[0]} in {root}: {_last_line(done.stderr)}")
    return done.stdout


def _git_answers(root: Path, *arguments: str) -> bool:
    return _run(root, "git", *arguments).returncode == 0


def _dvc(root: Path, *arguments: str) -> str:
    done = _run(root, *_DVC, *arguments)
    if done.returncode:
        raise CtcmlError(f"dvc {arguments[0]} in {root}: {_last_line(done.stderr)}")
    return done.stdout


def _add_and_push(root: Path, path: str) -> None:
    """`dvc add` and `dvc push` of one path, also to the bucket of a deployment."""
    pointer, distant = f"{path}.dvc", _distant(root)
    also = [] if distant is None else [["push", "--remote", DISTANT, pointer]]
    _in_turn(root, ["add", path], ["push", pointer], *also, distant=distant)


def _fetch_distant(root: Path, *pointers: str) -> None:
    """What the store lacks, as in a clone on another machine, comes from the deployment's bucket; without one, nothing is done."""
    distant = _distant(root)
    lacking = [name for name in pointers if not _is_stored(root, _md5((root / name).read_text(encoding="utf-8"), name))]
    if distant is not None and lacking:
        _in_turn(root, ["fetch", "--remote", DISTANT, *lacking], ["push", *lacking], distant=distant)


def _is_stored(root: Path, md5: str) -> bool:
    """Whether a file or folder is whole in the store; `dvc fetch` ends well even where that lacks all of it."""
    listed = _in_store(root, md5)
    if not listed.is_file() or not md5.endswith(".dir"):
        return listed.is_file()
    return all(_in_store(root, str(one["md5"])).is_file() for one in json.loads(listed.read_text(encoding="utf-8")))


def _distant(root: Path) -> dict[str, str] | None:
    """What DVC must have in its environment to know the bucket, if the deployment names one; keys are in no file of DVC's."""
    there = read_deployment(Workspace(root).deployment)
    if there.dvc.remote is None:
        return None
    folder = Workspace(root).private.resolve() / "dvc"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "config") as unfinished:
        unfinished.write_text(f"['remote \"{DISTANT}\"']\n    url = {there.dvc.remote}\n", encoding="utf-8")
    return {"DVC_GLOBAL_CONFIG_DIR": str(folder), **there.s3.environment()}


def _in_turn(root: Path, *commands: list[str], distant: dict[str, str] | None = None) -> None:
    """Several commands of DVC in one process, until one fails: starting DVC costs a second; quiet, it would not say why."""
    done = _run(root, sys.executable, "-c", IN_TURN, json.dumps(commands), more=distant)
    if done.returncode:
        tried = ", ".join(" ".join(command) for command in commands)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]  # advice of DVC's follows
        raise CtcmlError(f"dvc {tried} in {root}: {_last_line(errors[-1] if errors else done.stderr)}")


_DVC = (sys.executable, "-m", "dvc", "--wait-for-lock")
IN_TURN = """
import json, sys
from dvc.cli import main
for command in json.loads(sys.argv[1]):
    if code := main(["--wait-for-lock", *command]):
        sys.exit(code)
"""


def _environment() -> dict[str, str]:
    """Stages are called by name, so our own `bin` comes first; nobody is asked for a password or a signature."""
    environment = clean_environment() | {"PYTHONUNBUFFERED": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_COUNT": "2"}
    environment |= {"GIT_CONFIG_KEY_0": "commit.gpgsign", "GIT_CONFIG_VALUE_0": "false"}
    environment |= {"GIT_CONFIG_KEY_1": "tag.gpgsign", "GIT_CONFIG_VALUE_1": "false"}
    return environment | {"PATH": f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"}


def _run(root: Path, *command: str, more: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    environment = _environment() | (more or {})
    try:
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, errors="replace")
    except FileNotFoundError as error:
        raise ServiceDown(f"{error.filename}: not found; install git, or check the workspace's path") from None


def _repro(root: Path, arguments: list[str], on_line: Callable[[str], None] | None) -> list[str]:
    ran, said, missing = [], "", ""
    process = subprocess.Popen(
        [*_DVC, "repro", *arguments],
        cwd=root,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with process:
        try:
            for line in process.stdout or ():
                text = line.rstrip()
                if started := re.match(r"Running stage '([^']+)'", text):
                    ran.append(started[1])
                if reason := re.search(r"failed to reproduce '([^']+)': (?!failed to run)(.+)", text):
                    missing = f"{reason[1]}: {reason[2]}; make that first, an intake makes data/"
                elif text and not text.startswith("ERROR: failed to reproduce"):
                    said = text
                if on_line is not None and not is_dvc_talk(text):
                    on_line(text)
        except BaseException:  # interrupted: the stage must not go on alone
            below = psutil.Process(process.pid)
            end([*below.children(recursive=True), below])
            raise
    if process.returncode:
        raise CtcmlError(f"stage {missing or f'{ran[-1] if ran else arguments[-1]}: {said}'}")
    return ran


def is_dvc_talk(line: str) -> bool:
    """Whether DVC speaks of itself; people want to hear the stages.

    >>> is_dvc_talk("Updating lock file 'dvc.lock'"), is_dvc_talk("3 clusters flagged")
    (True, False)
    """
    own = (
        *("Running stage", "> ctcml", "Updating lock", "Generating lock", "Stage '", "'", "WARNING: "),
        *("Use `dvc", "To track", "git add", "To enable", "dvc config"),
    )
    return not line.strip() or line.strip().startswith(own)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no word of explanation"
