"""What is handed to others: wheel and sdist install into an empty environment; the files beside them are in order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import stmfg

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ["--quiet", "--no-deps", "--no-index"]


def call(*command: str | Path, cwd: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return an sdist of the working tree and the wheel that is built from the sdist."""
    for name in ("build", "hatchling"):
        pytest.importorskip(name, reason=f"{name} is not installed; the dependency group dev brings it")
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def sources() -> set[str]:
    """Return the files of the package, as they are named in the repository."""
    files = [path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in files if ".egg-info" not in path.as_posix()}


def test_wheel_and_sdist_have_every_file(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        assert {f"src/{name}" for name in names} == sources()
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
        assert sources() | {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "Makefile"} <= names
        assert not any(part in name for name in names for part in (".venv", "__pycache__", "shared/"))


def test_the_wheel_installs_into_an_empty_environment_and_runs(built: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", *OFFLINE, built[1])
    # The libraries are those of this environment; stmfg comes first in that one.
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = tmp_path / "env" / "bin" / "stmfg"
    assert call(command, "--version", cwd=tmp_path).strip() == f"stmfg {stmfg.__version__}"
    call(command, "run", "--help", cwd=tmp_path)
    script = "import stmfg, stmfg.workflow, stmfg.report; print(stmfg.__file__)"
    assert Path(call(python, "-c", script, cwd=tmp_path).strip()).is_relative_to(site)


def test_the_hosted_workflow_calls_what_is_run_here() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["check"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    lowest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert lowest
    assert job["strategy"]["matrix"]["python"][0] == lowest[1]


def test_hooks_are_the_linters_of_the_makefile() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --fix") for hook in local["hooks"]}
    linted = re.findall(r"^\t\$\(BIN\)/((?:ruff|mypy)[^.\n]*)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert hooks == {line.replace("--check", "").strip() for line in linted}


def test_the_container_copies_what_there_is() -> None:
    recipe = (ROOT / "Containerfile").read_text()
    for line in re.findall(r"^COPY (.*)$", recipe, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1])
    extras = re.search(r"\[([\w,]+)\]", recipe)
    assert extras
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = ", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)


def test_a_bug_report_asks_for_info_and_the_record() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    labels = [part["attributes"]["label"] for part in form["body"]]
    assert "stmfg info INPUT" in labels
    assert "run.json" in labels
    json.dumps(form)


def test_the_site_is_built_where_it_is_hosted_as_here() -> None:
    hosted = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())
    assert hosted["sphinx"] == {"configuration": "docs/conf.py", "fail_on_warning": True}
