"""The documentation says what is true: its code runs, its options and files exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import io

import stmfg
from stmfg import Config, cli
from stmfg.datasets import simulate

ROOT = Path(__file__).resolve().parents[2]
SITE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if not {"_build", "generated"} & set(path.relative_to(ROOT).parts)
)
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *SITE]
FILES = {"result.h5ad", "domains.csv", "domains.png", "report.html", "run.json"}
# One thread: short runs gain nothing from more, and the tests share the machine.
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}


class Block(NamedTuple):
    """A fenced block of code and the comment in front of it."""

    mark: str
    language: str
    code: str


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    fenced = r"(?:^<!-- ([^\n]*) -->\n)?^```([^\n`]*)\n(.*?)^```$"
    found = re.findall(fenced, text(page), flags=re.DOTALL | re.MULTILINE)
    return [Block(*each) for each in found]


def runnable(language: str, page: str = "README.md") -> str:
    return "\n".join(b.code for b in blocks(page) if b.mark == "run" and b.language == language)


def write_outs(folder: Path) -> None:
    """Write simulated tissue as a Space Ranger folder."""
    adata = simulate(250, 80, random_state=2)
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


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    write_outs(folder / "outs")
    write_outs(folder / "next_outs")
    tissue = simulate(250, 80, layout="cells", random_state=2)
    cells = ad.AnnData(obs=pd.DataFrame(index=tissue.obs_names))
    cells.obsm["spatial"] = tissue.obsm["spatial"]
    cells.obsm["X_pca"] = np.linalg.svd(np.log1p(tissue.X.toarray()), full_matrices=False)[0][:, 1:11]
    cells.write_h5ad(folder / "cells.h5ad")
    return folder


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shell(place: Path) -> None:
    said = run(["bash", "-euo", "pipefail", "-c", runnable("bash")], place)
    assert "7 domains of 250 spots" in said
    assert "spot,domain,confidence" in said
    for folder in ("domains", "cell_domains", "next_domains"):
        assert {path.name for path in (place / folder).iterdir()} == FILES


def test_python(place: Path) -> None:
    shown = (
        "assert adata.obs['stmfg_domain'].nunique() == 7\n"
        "assert embedding.shape == (other.n_obs, adata.obsm['X_stmfg'].shape[1])\n"
    )
    run([sys.executable, "-W", "error::FutureWarning:__main__", "-c", runnable("python") + shown], place)
    assert (place / "domains.png").stat().st_size > 10_000
    assert sorted(path.name for path in (place / "model").iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("page", ["docs/coming-from.md"])
def test_blocks_of_the_site(place: Path, page: str) -> None:
    if runnable("bash", page):
        run(["bash", "-euo", "pipefail", "-c", runnable("bash", page)], place)
    if runnable("python", page):
        run([sys.executable, "-c", runnable("python", page)], place)


def test_after_the_domains(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "outs", tmp_path / "outs")
    said = run(["bash", "-euo", "pipefail", "-c", runnable("bash", "docs/after.md")], tmp_path)
    assert "250 spots in both (A has 250, B has 250)\nARI " in said
    assert (tmp_path / "loupe.csv").read_text().startswith("Barcode,stmfg_domain\n")
    assert (tmp_path / "xenium.csv").read_text().startswith("cell_id,group\n")
    shown = "assert adata.layers['stmfg_denoised'].shape == adata.shape\n"
    code = runnable("python", "docs/after.md") + shown
    run([sys.executable, "-W", "error::FutureWarning:__main__", "-c", code], tmp_path)
    assert ad.read_h5ad(tmp_path / "pseudobulk.h5ad").n_obs == 5


def test_every_platform_has_a_row_and_its_test() -> None:
    from stmfg.io.platforms import PLATFORMS

    rows = re.findall(r"runs_from_the_shell\[(\w+)\]` \|$", text("docs/platforms.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(PLATFORMS)


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
    named = set(re.findall(r"^   stmfg\.(\w+)$", text("docs/api.md"), flags=re.MULTILINE))
    assert named == set(stmfg.__all__) - {"__version__"}


def test_every_page_of_the_site_is_in_its_contents() -> None:
    listed = {"docs/index.md"}
    for page in SITE:
        for block in blocks(page):
            if block.language == "{toctree}":
                names = [line for line in block.code.splitlines() if line and not line.startswith(":")]
                listed |= {str((Path(page).parent / f"{name}.md").as_posix()) for name in names}
    assert listed == set(SITE)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text(page)):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^(\w+):", text("Makefile"), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)(?=[`,;.]|  )", text(page))) <= targets


def test_options_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    there = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--output"}
    table = set(re.findall(r"^\| `(--[a-z-]+)", text("README.md"), flags=re.MULTILINE))
    assert table == there


def test_files_and_keys_are_those_of_a_run() -> None:
    from stmfg import _keys
    from stmfg.workflow import OUTPUTS

    rows = re.findall(r"^\| `([^`]+)` \|", text("README.md"), flags=re.MULTILINE)
    assert set(OUTPUTS) == FILES <= set(rows)
    written = "DOMAIN CONFIDENCE SLICE UNLIKE EMBEDDING VIEW_WEIGHTS SPATIAL_GRAPH DENOISED UNS"
    assert {getattr(_keys, name) for name in written.split()} | {_keys.DOMAIN + _keys.COLORS} == {
        key for row in rows for key in re.findall(r"(?:obs|obsm|obsp|layers|uns)\[\"(\w+)\"\]", row)
    }


@pytest.mark.parametrize("page", ["docs/method.md", "docs/parameters.md", "CONTRIBUTING.md", "README.md"])
def test_hyperparameters_exist(page: str) -> None:
    fields = Config().to_dict()
    for name, value in re.findall(r"`(\w+)=([^`]+)`", text(page)):
        if name != "copy":
            assert name in fields, name
            Config().replace(**{name: eval(value, {})})  # noqa: S307 - our own page
    assert set(re.findall(r"\b(?:n|min|max|spatial|feature|decoder)_[a-z_]+\b(?=`)", text(page))) <= {
        *fields, "n_domains", "n_domains_candidates", "n_domains_evidence",
    }  # fmt: skip


def test_versions_agree() -> None:
    assert f"\n## [{stmfg.__version__}]" in text("CHANGELOG.md")
    assert f"\nversion: {stmfg.__version__}\n" in text("CITATION.cff")


def test_citation_names_the_paper() -> None:
    for page in ("README.md", "CITATION.cff"):
        assert "2512.16188" in text(page)
        assert "A Multi-scale Fused Graph Neural Network with Inter-view Contrastive Learning" in text(page)


def test_the_figure_is_small_enough_for_a_page() -> None:
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text("README.md")):
        assert 10_000 < (ROOT / name).stat().st_size < 200_000
