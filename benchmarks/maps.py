"""Domains side by side: one picture a data set, the annotation first, then every method whose labels were kept.

usage: maps.py [DATA] [--labels FOLDER] [-o FOLDER] [--sets NAME ...] [--manifest FILE]

``accuracy.py`` keeps the labels of its runs beside its table, in ``.labels/SET/METHOD-SEED.csv``; of each method the
lowest seed there is drawn. Domains take the colour of the annotated one they share most spots with, one to one
(Hungarian method), after the runs and by this script alone.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from scipy.optimize import linear_sum_assignment

import methods
import protocol
from stmfg import metrics
from stmfg._core.geometry import spacing
from stmfg._core.palette import MISSING, palette

HERE = Path(__file__).resolve().parent
COLUMNS, WIDTH = 5, 2.0  # panels in a row at most, inches of one


def kept(folder: Path) -> dict[str, tuple[int, pd.Series]]:
    """Return, in the order of the methods, the lowest seed that was kept and its labels."""
    found = {}
    for name in methods.METHODS:
        seeds = sorted(int(path.stem.removeprefix(f"{name}-")) for path in folder.glob(f"{name}-*.csv"))
        if seeds:
            table = pd.read_csv(folder / f"{name}-{seeds[0]}.csv", index_col=0, dtype=str)
            table.index = table.index.astype(str)
            found[name] = (seeds[0], table["domain"] if "domain" in table else table.iloc[:, 0])
    return found


def colours(truth: pd.Series, labels: pd.Series) -> dict[str, str]:
    """Give each domain the colour of its annotated partner; what is left over gets colours of its own."""
    shared = pd.crosstab(labels.reindex(truth.index), truth)
    rows, columns = linear_sum_assignment(-shared.to_numpy())
    shades = palette(len(shared.columns) + labels.nunique())
    partner = {shared.index[i]: shades[j] for i, j in zip(rows, columns, strict=True)}
    others = iter(shades[len(shared.columns) :])
    return {label: partner.get(label) or next(others) for label in sorted(labels.dropna().unique())}


def draw(name: str, truth: pd.Series, positions: pd.DataFrame, found: dict[str, tuple[int, pd.Series]]) -> Figure:
    """Draw the annotation and each labelling at true shape, y downwards as in the image."""
    panels = [("annotation", truth)]
    for method, (seed, labels) in found.items():
        score = metrics.ari(truth.to_numpy(), labels.loc[truth.index].to_numpy())
        panels.append((f"{method} {score:.2f}" + (f" (seed {seed})" if seed else ""), labels))
    span = positions.max() - positions.min()
    height = float(np.clip(WIDTH * span["y"] / span["x"], 0.5 * WIDTH, 1.6 * WIDTH))
    n_rows = -(-len(panels) // COLUMNS)
    n_columns = -(-len(panels) // n_rows)
    figure = Figure(figsize=(WIDTH * n_columns, (height + 0.25) * n_rows + 0.3), layout="constrained")
    figure.suptitle(
        f"{name}: {len(positions):,} spots, {truth.nunique()} domains, ARI of the labelling shown", fontsize=9
    )
    # A spot is as wide as the distance to its neighbour, in points.
    scale = min(WIDTH / span["x"], height / span["y"]) * 0.9 * 72
    size = max(spacing(positions.to_numpy(float)) * scale, 1.0) ** 2
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in all_axes[len(panels) :]:
        axes.axis("off")
    for axes, (title, labels) in zip(all_axes, panels, strict=False):
        shade = labels.map(colours(truth, labels)).reindex(positions.index).fillna(MISSING)
        axes.scatter(positions["x"], positions["y"], c=shade.to_numpy(), s=size, linewidths=0)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.set_title(title, fontsize=8, pad=2)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a small PNG: 128 colours are more than there are domains."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    Image.open(picture).convert("RGB").quantize(128).save(path, optimize=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with the files of the manifest ($STMFG_DATA)")
    parser.add_argument("--labels", type=Path, default=HERE / "results" / ".labels")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results")
    parser.add_argument("--manifest", type=Path, default=protocol.MANIFEST)
    parser.add_argument("--sets", nargs="*", help="names of the manifest (default: all)")
    args = parser.parse_args(argv)
    data = Path(args.data or os.environ.get("STMFG_DATA") or parser.error("name the data folder or set $STMFG_DATA"))
    for source in protocol.manifest(args.manifest):
        found = kept(args.labels / source.name)
        if not found or (args.sets and source.name not in args.sets):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            task = protocol.prepare(source, data, Path(scratch))
            adata = ad.read_h5ad(task.input)
        positions = pd.DataFrame(adata.obsm["spatial"][:, :2], index=adata.obs_names, columns=["x", "y"])
        save(draw(source.name, task.truth, positions, found), args.output / f"map-{source.name}.png")


if __name__ == "__main__":
    main()
