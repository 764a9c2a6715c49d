"""Maps of marker genes before and after denoising.

usage: marker_maps.py FILE.h5ad GENE [GENE ...] -o FIGURE.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
from matplotlib.figure import Figure

import stmfg


def main() -> None:
    """Train on the file and draw each gene's counts above its denoised expression."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("genes", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    adata = ad.read_h5ad(args.source)
    stmfg.tl.embed(adata, denoised=True)
    figure = Figure(figsize=(3.2 * len(args.genes), 6.4), layout="constrained")
    axes = figure.subplots(2, len(args.genes), squeeze=False)
    x, y = adata.obsm["spatial"].T
    for j, gene in enumerate(args.genes):
        i = adata.var_names.get_loc(gene)
        values = {"counts": adata.X[:, [i]].toarray()[:, 0], "denoised": adata.layers["stmfg_denoised"][:, i]}
        for ax, (name, found) in zip(axes[:, j], values.items(), strict=True):
            shade = np.log1p(found)
            ax.scatter(x, -y, c=shade, s=2.2, linewidths=0, vmax=np.nanpercentile(shade, 99.5))
            ax.set(title=f"{gene}, {name}", xticks=[], yticks=[], aspect="equal")
            ax.spines[:].set_visible(False)
    figure.savefig(args.output, dpi=100, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
