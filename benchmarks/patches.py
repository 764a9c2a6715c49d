"""Does training on patches of a large tissue cost accuracy? Small tissues are treated as if they were large.

usage: patches.py [DATA] [-o TABLE.tsv] [--sets NAME ...] [--seeds N]

``whole``: every spot is trained on. ``patches``: the network is trained on patches that hold a third of the spots, and
applied to all. ``patches and samples``: besides, genes, axes and clusterings are fitted on a third of the spots, and
neighbours in expression are approximate, as beyond 200,000 cells.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd

import protocol
import stmfg
from stmfg.model import batches, cluster, graphs
from stmfg.model import features as _features

HERE = Path(__file__).resolve().parent
SETS = [
    *("dlpfc_151673", "dlpfc_151676", "merfish_hypothalamus_bregma-0.04_pca"),
    *("dlpfc_151507_pca", "starmap_visual_cortex_BY3_1k"),
]


def limits(way: str, n: int) -> list[tuple[object, str, int]]:
    """Return what is changed: module, constant, value."""
    patches = [(batches, "TRAIN_AT_MOST", n // 3), (graphs, "PATCH", max(50, n // 24))]
    samples = [(_features, "FIT_AT_MOST", n // 3), (cluster, "FIT_AT_MOST", n // 3), (graphs, "EXACT_AT_MOST", 0)]
    return {"whole": [], "patches": patches, "patches and samples": patches + samples}[way]


def main() -> None:
    """Run every set all three ways and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA", "."))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "patches.tsv")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    rows = []
    for source in (s for s in protocol.manifest(data=args.data) if s.name in args.sets):
        with tempfile.TemporaryDirectory() as scratch:
            task = protocol.prepare(source, Path(args.data), Path(scratch))
            bare = ad.read_h5ad(task.input)
        for way in ("whole", "patches", "patches and samples"):
            for seed in range(args.seeds):
                adata = bare.copy()
                with ExitStack() as stack:
                    for module, name, value in limits(way, bare.n_obs):
                        stack.enter_context(mock.patch.object(module, name, value))
                    stmfg.tl.domains(adata, n_domains=source.k, use_rep=source.rep or None, random_state=seed)
                found = adata.obs["stmfg_domain"].astype(str).loc[task.truth.index]
                rows.append((source.name, way, seed, stmfg.metrics.ari(task.truth, found)))
    table = pd.DataFrame(rows, columns=["set", "way", "seed", "ari"])
    table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
    print("| set | whole | patches | patches and samples |\n|---|---|---|---|")
    for name, part in table.groupby("set", sort=False):
        scores = part.groupby("way", sort=False)["ari"]
        print(f"| {name} | " + " | ".join(f"{a.mean():.3f} ± {np.std(a):.3f}" for _, a in scores) + " |")


if __name__ == "__main__":
    main()
