"""Which code a stage is made of, as one hash a stage, so that a changed module reruns the stages that use it.

DVC sees files of the workspace, not our source. The stage `fingerprint` therefore writes these hashes to `code.yaml`,
and every other stage names its own entry there as a parameter. A hash covers the text of the stage's function, of what
it uses of `stages.py`, and of every `ctcml` module that it reaches through imports, inside functions too.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import yaml

from ctcml.errors import BadInput
from ctcml.tables import atomic_path

CODE_FILE = "code.yaml"


def write_fingerprints(root: Path) -> None:
    """Write `code.yaml` of a workspace: for each stage of its `dvc.yaml` that asks, the hash of the code that runs."""
    hashes = fingerprints(root / "dvc.yaml", Path(__file__).parent)
    with atomic_path(root / CODE_FILE) as unfinished:
        unfinished.write_text(yaml.safe_dump(hashes), encoding="utf-8")


def fingerprints(pipeline: Path, package: Path) -> dict[str, str]:
    """Stage -> sha256 of its code, for the stages of `pipeline` (a dvc.yaml) that have a parameter in `code.yaml`.

    `package` is the folder of `ctcml`. Raises `BadInput` if a stage has no function of its name in `stages.py`.
    """
    source = (package / "stages.py").read_text(encoding="utf-8")
    definitions = {name: node for node in ast.parse(source).body for name in _names_bound(node)}
    hashes = {}
    for stage in _asking_stages(pipeline):
        if not isinstance(definitions.get(stage), ast.FunctionDef):
            raise BadInput(f"{pipeline}: stage {stage!r} has no function of that name in ctcml/stages.py; rename one")
        used = _used(stage, definitions)
        parts = [_lines(source, node) for node in used]
        modules = {module for node in used for module in _imports(node, package)}
        parts += [module.read_text(encoding="utf-8") for module in _closure(modules, package)]
        hashes[stage] = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return hashes


def _asking_stages(pipeline: Path) -> list[str]:
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    asked = {
        stage: [name for one in about.get("params", []) if isinstance(one, dict) for name in one.get(CODE_FILE, [])]
        for stage, about in stages.items()
    }
    return [stage for stage, names in asked.items() if stage in names]


def _names_bound(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.split(".")[0] for alias in node.names]
    return [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)]


def _used(stage: str, definitions: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The stage's function and whatever it uses of its own module, in order of appearance."""
    found, new = set[str](), {stage}
    while new:
        found |= new
        mentioned = {inner.id for name in new for inner in ast.walk(definitions[name]) if isinstance(inner, ast.Name)}
        new = (mentioned & definitions.keys()) - found
    return sorted({definitions[name] for name in found}, key=lambda node: node.lineno)


def _lines(source: str, node: ast.stmt) -> str:
    """The text of a statement, with its decorators."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def _imports(tree: ast.AST, package: Path) -> Iterator[Path]:
    """The files of the package that are imported anywhere below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            file = package / f"{parts[1]}.py" if parts[0] == package.name and len(parts) > 1 else package / "none.py"
            if file.is_file():
                yield file


def _closure(modules: set[Path], package: Path) -> list[Path]:
    """These files and all that they import, directly or not, in order of name."""
    found, new = set[Path](), modules
    while new:
        found |= new
        trees = [ast.parse(module.read_text(encoding="utf-8")) for module in new]
        new = {file for tree in trees for file in _imports(tree, package)} - found
    return sorted(found)
