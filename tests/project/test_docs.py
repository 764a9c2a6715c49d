"""README and site are true: their code runs, and options, keys, files and numbers are those of the package."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import io

import stmfg
from _runs import one_thread
from stmfg import Config, _keys
from stmfg.cli import main
from stmfg.datasets import simulate
from stmfg.io.platforms import PLATFORMS
from stmfg.workflow import OUTPUTS

ROOT = Path(__file__).resolve().parents[2]
SITE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if not {"_build", "generated"} & set(path.relative_to(ROOT).parts)
)
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *SITE]
COMMANDS = ["run", "info", "apply", "batch", "export", "report", "compare", "demo", "completion"]


class Block(NamedTuple):
    """A fenced block of code and the comment in front of it."""

    mark: str
    language: str
    code: str


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    fenced = r"(?:^<!-- ([^\n]*) -->\n)?^```([^\n`]*)\n(.*?)^```$"
    return [Block(*each) for each in re.findall(fenced, text(page), flags=re.DOTALL | re.MULTILINE)]


def write_outs(folder: Path, n: int = 250) -> None:
    """Write simulated tissue as a Space Ranger folder."""
    adata = simulate(n, 80, random_state=2)
    adata.obs_names = ["".join("ACGT"[i // 4**k % 4] for k in range(16)) + "-1" for i in range(n)]
    matrix = folder / "filtered_feature_bc_matrix"
    matrix.mkdir(parents=True)
    (folder / "spatial").mkdir()
    io.mmwrite(matrix / "matrix.mtx", adata.X.T.astype(np.int64))
    (matrix / "barcodes.tsv").write_text("".join(f"{name}\n" for name in adata.obs_names))
    genes = [f"ENSG{i:05d}\t{name}\tGene Expression\n" for i, name in enumerate(adata.var_names)]
    (matrix / "features.tsv").write_text("".join(genes))
    x, y = adata.obsm["spatial"].round().astype(int).T
    positions = pd.DataFrame({"barcode": adata.obs_names, "in_tissue": 1, "array_row": y // 87, "array_col": x // 50})
    positions["pxl_row_in_fullres"], positions["pxl_col_in_fullres"] = y, x
    positions.to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    (folder / "spatial" / "scalefactors_json.json").write_text('{"spot_diameter_fullres": 55.0}')


@pytest.fixture(scope="session")
def instrument(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs that the pages speak of."""
    folder = tmp_path_factory.mktemp("instrument")
    write_outs(folder / "outs")
    write_outs(folder / "next_outs")
    return folder


def run_page(page: str) -> dict[str, object]:
    """Run the blocks of a page in their order; return the names that its Python leaves."""
    names: dict[str, object] = {}
    with one_thread():
        for block in blocks(page):
            if block.mark != "run":
                continue
            if block.language == "python":
                exec(block.code, names)  # noqa: S102 - our own page
                plt.close("all")
            for line in block.code.splitlines() if block.language == "bash" else []:
                words = shlex.split(line, comments=True)
                assert not words or (words[0] == "stmfg" and main(words[1:]) == 0), line
    return names


@pytest.fixture
def place(instrument: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the inputs, as the working directory."""
    shutil.copytree(instrument, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme(place: Path) -> None:
    run_page("README.md")
    for folder in ("demo", "domains"):
        assert {path.name for path in (place / folder).iterdir()} == set(OUTPUTS)
    tried = ad.read_h5ad(place / "domains" / "result.h5ad").uns["stmfg"]["n_domains"]["n"]
    (said,) = re.findall(r"chooses one from (\d+) to (\d+)", text("README.md"))
    assert said == (str(min(tried)), str(max(tried)))


def test_the_page_on_python(place: Path) -> None:
    names = run_page("docs/python.md")
    assert names["adata"].obs["stmfg_domain"].nunique() == 7
    assert names["embedding"].shape == (names["other"].n_obs, names["adata"].obsm["X_stmfg"].shape[1])
    assert sorted(path.name for path in (place / "model").iterdir()) == ["model.json", "model.safetensors"]
    assert {path.name for path in (place / "next_domains").iterdir()} == set(OUTPUTS)


def test_the_tutorials_on_real_tissue(place: Path) -> None:
    run_page("docs/tutorials/cortex.md")
    assert (place / "figure.pdf").exists()
    write_outs(place / "151673" / "outs", 220)
    write_outs(place / "151676" / "outs")
    names = run_page("docs/tutorials/cortex-slices.md")
    assert set(names["shares"]["sample"]) == {"151673", "151676"}


def test_parts_of_ones_own_and_coming_from_other_tools(place: Path) -> None:
    run_page("docs/coming-from.md")
    names = run_page("docs/extend.md")
    labels = [names[model].predict(names["adata"]).tolist() for model in ("model", "again")]
    assert labels[0] == labels[1]


def test_after_the_domains(place: Path, capsys: Any) -> None:
    names = run_page("docs/after.md")
    assert "250 spots in both (A has 250, B has 250)\nARI " in capsys.readouterr().out
    assert (place / "loupe.csv").read_text().startswith("Barcode,stmfg_domain\n")
    assert ad.read_h5ad(place / "pseudobulk.h5ad").n_obs == 5
    assert names["adata"].layers["stmfg_denoised"].shape == names["adata"].shape


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= 130
    assert len(text("README.md").split()) <= 900
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text("README.md")):
        assert 10_000 < (ROOT / name).stat().st_size < 200_000


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_runs_or_says_why_not(page: str) -> None:
    # Cells run when the site is built, which fails where one does; they are cells in a page of this format alone.
    notebook = text(page).startswith("---\nfile_format: mystnb\n")
    for block in blocks(page):
        if block.language.startswith("{code-cell}"):
            assert notebook, page
        elif not block.language.startswith("{"):  # a directive, such as a figure
            assert block.language in {"bash", "console", "python", "text"}
            assert block.mark == "run" or block.mark.startswith("not run: "), block.code


def test_the_reference_names_all_that_is_public() -> None:
    named = set(re.findall(r"^   stmfg\.([\w.]+)$", text("docs/api.md"), flags=re.MULTILINE))
    assert {name for name in named if "." not in name} == set(stmfg.__all__) - {"__version__"}
    assert named >= {"model.network", "model.losses", "model.cluster"}


def test_every_page_of_the_site_is_in_its_contents() -> None:
    listed = {"docs/index.md"}
    for page in SITE:
        for block in blocks(page):
            if block.language == "{toctree}":
                names = [line for line in block.code.splitlines() if line and not line.startswith(":")]
                listed |= {str((Path(page).parent / f"{name}.md").as_posix()) for name in names}
    assert listed == set(SITE)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_are_named_exist(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(page)):
        assert ((ROOT / page).parent / target).exists(), target
    for name in re.findall(r"`((?:src/stmfg|tests|benchmarks|reliability|docs)/[\w./-]+)`", text(page)):
        assert (ROOT / name).exists() or "NAME" in name or name == "reliability/results.md", name
    for name in re.findall(r"`(test_\w+\.py)", text(page)):
        assert list((ROOT / "tests").rglob(name)), name
    for name in re.findall(r"`((?:model|io|tl|workflow|report|export|cli|_core)/[\w./-]+)`", text(page)):
        assert (ROOT / "src" / "stmfg" / name).exists(), name
    targets = set(re.findall(r"^([\w-]+):", text("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)(?=[`,;.]|  )", text(page))) <= targets


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Every option that a command of stmfg takes."""
    found: set[str] = set()
    for command in COMMANDS:
        helped = subprocess.run(
            [sys.executable, "-m", "stmfg", command, "--help"], capture_output=True, text=True, check=True
        )
        found |= set(re.findall(r"--[a-z][a-z-]+", helped.stdout))
    return found | {"--version"}


@pytest.mark.parametrize("page", sorted({"README.md", "SECURITY.md", *SITE} - {"docs/benchmark.md"}))
def test_options_are_those_of_the_commands(page: str, options: set[str]) -> None:
    named = re.findall(r"`(--[a-z][^`]*)`", text(page)) + re.findall(r"^!?stmfg [^\n]*", text(page), flags=re.MULTILINE)
    named += re.findall(r"`stmfg [^`]*`", text(page))
    assert {option for part in named for option in re.findall(r"(?<!\w)--[a-z][a-z-]+", part)} <= options


@pytest.mark.parametrize("page", PAGES)
def test_keys_are_those_of_the_package(page: str) -> None:
    ours = {value for name, value in vars(_keys).items() if name.isupper()} | {_keys.DOMAIN + _keys.COLORS}
    named = re.findall(r"(?:obs|obsm|obsp|layers|uns|var)\[\"((?:X_)?stmfg\w*)\"\]", text(page))
    assert set(named) <= ours


def test_all_that_is_written_is_listed() -> None:
    for page in ("README.md", "docs/results.md"):
        assert set(re.findall(r"^\| `([\w.]+)` \|", text(page), flags=re.MULTILINE)) == set(OUTPUTS)
    written = "DOMAIN CONFIDENCE SLICE UNLIKE EMBEDDING VIEW_WEIGHTS SPATIAL_GRAPH DENOISED UNS"
    for name in written.split():
        assert f'["{getattr(_keys, name)}"]` |' in text("docs/results.md"), name


def test_platforms_are_those_that_are_read() -> None:
    rows = re.findall(r"runs_from_the_shell\[(\w+)\]` \|$", text("docs/platforms.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(PLATFORMS)
    for name in ("Visium", "Xenium", "MERSCOPE", "CosMx", "Slide-seq", "Stereo-seq"):
        assert name in text("README.md")
        assert name.lower().replace("-", "") in PLATFORMS


def test_the_number_of_domains_is_as_far_off_as_said() -> None:
    runs = pd.read_csv(ROOT / "benchmarks" / "results" / "number_of_domains.tsv", sep="\t")
    off = (runs["chosen"] - runs["annotated"]).abs().groupby(runs["set"]).mean().mean()
    for page in ("README.md", "CONTRIBUTING.md"):
        assert f"{off:.1f} off" in text(page)


@pytest.mark.parametrize("page", PAGES)
def test_hyperparameters_exist(page: str) -> None:
    fields = Config().to_dict()
    for name, value in re.findall(r"`(\w+)=([^`]+)`", text(page)):
        if name in fields:
            Config().replace(**{name: eval(value, {})})  # noqa: S307 - our own page
    if page in ("docs/method.md", "docs/parameters.md"):
        named = set(re.findall(r"\b(?:n|min|max|spatial|feature|decoder)_[a-z_]+\b(?=`)", text(page)))
        assert named <= {*fields, "n_domains"}


def test_versions_agree_and_the_paper_is_named() -> None:
    assert f"\n## [{stmfg.__version__}]" in text("CHANGELOG.md")
    assert f"\nversion: {stmfg.__version__}\n" in text("CITATION.cff")
    for page in ("README.md", "CITATION.cff"):
        assert "2512.16188" in text(page)
        title = "A Multi-scale Fused Graph Neural Network with Inter-view Contrastive Learning"
        assert title in " ".join(text(page).split())
