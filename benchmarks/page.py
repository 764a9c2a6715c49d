"""The report: how large it is, how long it takes to write and to show; and its map beside libraries that draw one.

usage: page.py [-o FOLDER] [--spots N ...] [--repeats N] [--renderers FOLDER]

Simulated results of 4,000 spots (18,000 genes, about 2,400 of them seen in a spot), 50,000 (10,000, 480) and 300,000
(5,000, 100) are written and opened in Chromium without a window and without a graphics card: ``page.tsv``. With
``--renderers`` the packages of ``renderers/package.json`` are installed into FOLDER by npm and draw 300,000 points of
random places, 800 x 800 pixels, moved a little from frame to frame: ``renderers.tsv``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from selenium.common.exceptions import TimeoutException

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
import _browser  # noqa: E402 - what the tests open pages with
from stmfg import report  # noqa: E402

KINDS = {4_000: (18_000, 4_000), 50_000: (10_000, 600), 300_000: (5_000, 110)}
"""Genes, and molecules of a spot, by the number of spots."""
PATIENCE = 40  # seconds for twelve frames
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


def simulate(n: int, genes: int, molecules: int) -> AnnData:
    """Return a result in seven bands, with genes of very different abundance."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(n)))
    row, column = np.divmod(np.arange(n), side)
    xy = np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(0.75)]) * 100.0
    codes = np.clip((row + 0.04 * side * np.sin(9 * column / side)) * 7 / side, 0, 6).astype(int)
    share = rng.lognormal(0, 1.6, genes)
    drawn = rng.choice(genes, size=n * molecules, p=share / share.sum()).astype(np.int32)
    spots = np.repeat(np.arange(n, dtype=np.int32), molecules)
    counts = sparse.csr_matrix((np.ones(len(drawn), dtype=np.float32), (spots, drawn)), shape=(n, genes))
    adata = AnnData(counts)
    adata.obs_names = [
        f"{i:x}".zfill(16).translate(str.maketrans("0123456789abcdef", "ACGTACGTACGTACGT")) + f"-{i}" for i in range(n)
    ]
    adata.var_names = [f"GENE{i}" for i in range(genes)]
    adata.obs["stmfg_domain"] = pd.Categorical.from_codes(codes, categories=list("1234567"))
    adata.obs["stmfg_confidence"] = rng.beta(8, 2, n).astype(np.float32)
    adata.obsm["spatial"] = xy
    adata.obsm["X_stmfg"] = (rng.normal(size=(n, 8)) + 2 * np.eye(8)[codes]).astype(np.float32)
    return adata


SEARCH = """
const done = arguments[0];
const field = document.querySelector("#gene");
const map = document.querySelector("#tissue-map");
const start = performance.now();
field.value = arguments[1] ?? "GENE77";
field.dispatchEvent(new Event("input"));
field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
const look = () => document.querySelector("#scale").hidden || map.hasAttribute("aria-busy")
  ? requestAnimationFrame(look) : requestAnimationFrame(() => done(performance.now() - start));
look();
"""


def measure_page(browser: Any, n: int, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Write the page of a simulated result once, and open it several times."""
    adata = simulate(n, *KINDS[n])
    path = folder / f"{n}.html"
    start = time.process_time()
    report.write(adata, path)
    seconds = time.process_time() - start
    beside = [file.stat().st_size for file in folder.glob(f"{n}_genes/*")]
    rows = []
    for _ in range(repeats):
        _browser.loaded(browser, path)
        drawn = float(browser.execute_script("return document.documentElement.dataset.drawn"))
        rows.append(
            {
                "spots": n,
                "counts": adata.X.nnz,
                "page_mb": path.stat().st_size / 1e6,
                "genes_mb": sum(beside) / 1e6,
                "files": len(beside),
                "cpu_seconds_to_write": seconds,
                "first_picture_ms": drawn,
                "gene_ms": float(browser.execute_async_script(SEARCH)),
            }
        )
    return rows


def compare_renderers(folder: Path) -> list[dict[str, Any]]:
    """Bundle a page for each renderer and time its frames."""
    sources = HERE / "renderers"
    shutil.copy(sources / "package.json", folder)
    npm, npx = shutil.which("npm"), shutil.which("npx")
    if npm is None or npx is None:
        raise SystemExit("npm is not installed")
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
    rows = []
    for name in ("canvas", "regl-scatterplot", "deck.gl"):
        bundle = folder / f"{name}.bundle.js"
        command = [
            npx,
            "esbuild",
            str(sources / f"{name}.js"),
            "--bundle",
            "--minify",
            f"--outfile={bundle}",
            "--log-level=error",
        ]
        subprocess.run(command, cwd=folder, check=True, env=os.environ | {"NODE_PATH": str(folder / "node_modules")})
        page = folder / f"{name}.html"
        canvas = '<canvas width="800" height="800" style="width:800px;height:800px"></canvas>'
        page.write_text(f"<!DOCTYPE html>{canvas}<script src={json.dumps(bundle.name)}></script>")
        browser = _browser.start(Path(tempfile.mkdtemp(dir=folder)))
        browser.set_script_timeout(PATIENCE)
        for n in (30_000, 300_000):
            browser.get(page.as_uri())
            try:
                times = browser.execute_async_script("measure(arguments[0]).then(arguments[1])", n)
            except TimeoutException:
                times = [np.nan]
            median, slow = np.percentile(times, [50, 90])
            rows.append(
                {"renderer": name, "spots": n, "script_kb": bundle.stat().st_size / 1e3, "ms": median, "ms_90": slow}
            )
        browser.quit()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results")
    parser.add_argument("--spots", type=int, nargs="*", default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--renderers", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.renderers is not None:
        _browser.FLAGS[:] = [flag for flag in _browser.FLAGS if flag != "--disable-gpu"] + SOFTWARE
        arguments.renderers.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame(compare_renderers(arguments.renderers.resolve()))
        table.to_csv(arguments.output / "renderers.tsv", sep="\t", index=False, float_format="%.1f")
        print(table.to_string())
        return
    with tempfile.TemporaryDirectory() as folder:
        browser = _browser.start(Path(folder) / "chromium")
        browser.set_script_timeout(100)
        rows = [row for n in arguments.spots for row in measure_page(browser, n, Path(folder), arguments.repeats)]
        browser.quit()
    table = pd.DataFrame(rows)
    table.to_csv(arguments.output / "page.tsv", sep="\t", index=False, float_format="%.1f")
    print(table.to_string())


if __name__ == "__main__":
    main()
