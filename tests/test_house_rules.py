"""What two files promise each other."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from ctcml import stages
from ctcml.cli import cli
from ctcml.params import Params

SOURCE = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((SOURCE / "dvc.yaml").read_text())["stages"]
PACKAGES = ("ctcml", "labelstudio", "flows", "dashboards")
MODULES = sorted(file for package in PACKAGES for file in (SOURCE / package).rglob("*.py"))


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += every_command(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("path", every_command(cli), ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    assert f"Example: ctcml {' '.join(path)}" in result.output


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = "import sys; from ctcml.cli import cli; print(sorted({'torch','mlflow','prefect','umap','lifelines','sklearn'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("function", stages.STAGES, ids=lambda one: one.__name__)
def test_a_stage_names_the_sections_of_params_that_it_reads_and_its_own_code(function: object) -> None:
    name = function.__name__  # type: ignore[attr-defined]
    declared = PIPELINE[name]["params"]
    sections = {one for one in declared if isinstance(one, str)}
    # Where the work runs is no part of what is made, so no stage reruns for it.
    taken = set(inspect.signature(function).parameters) - {"ws", "say", "executor"}  # type: ignore[arg-type]
    assert sections == taken
    assert {"code.yaml": [name]} in declared


def test_every_stage_of_the_pipeline_is_a_command_of_its_name() -> None:
    assert set(PIPELINE) == {one.__name__ for one in stages.STAGES} | {"fingerprint"}
    assert all(about["cmd"] == f"ctcml {name}" for name, about in PIPELINE.items())
    assert {(name,) for name in PIPELINE} <= set(every_command(cli))


def test_every_path_of_the_pipeline_is_one_that_the_workspace_knows() -> None:
    from ctcml.workspace import Workspace

    ws = Workspace(Path("/lab"))
    known = {
        value.relative_to("/lab").as_posix()
        for name in dir(ws)
        if isinstance(value := getattr(ws, name), Path) and name != "root"
    }
    for about in PIPELINE.values():
        for path in [*about.get("deps", []), *(one for one in about.get("outs", []) if isinstance(one, str))]:
            assert path in known or path.rsplit("/", 1)[0] in known, path


def test_every_parameter_is_read_somewhere() -> None:
    text = "\n".join(file.read_text() for file in MODULES if file.name != "params.py")
    for section, about in Params.model_fields.items():
        fields = getattr(about.annotation, "model_fields", {section: None})
        whole = re.search(rf"{section}\.model_dump\(|gate\.model_dump\(", text) is not None
        for field in fields:
            assert whole or re.search(rf"\b{field}\b", text), f"{section}.{field}"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_a_module_opens_by_saying_what_it_owns_and_does_nothing_when_imported(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree), "no docstring"
    for node in tree.body:
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            call = ast.unparse(node)
            assert call.startswith(("set_model(", "main()")), f"acts on import: {call}"


def test_the_readme_is_short_and_its_commands_exist() -> None:
    text = (SOURCE / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert "research use only" in text.lower()
    targets = set(re.findall(r"^([a-z]+):", (SOURCE / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
    known = {path[0] for path in every_command(cli)}
    assert set(re.findall(r"ctcml ([a-z]+(?:-[a-z]+)*)", "\n".join(re.findall(r"`(ctcml [^`]+)`", text)))) <= known


def test_nothing_in_the_source_names_a_folder_of_some_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=SOURCE, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        file = SOURCE / name
        if file.is_file() and file.suffix not in (".png", ".svg"):
            assert not re.search(r"/(work|root|home/[a-z]+|opt/wheels)/", file.read_text(errors="ignore")), name
