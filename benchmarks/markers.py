"""How many markers remain when they are tested on molecules that the domains were not found in, and specific ones?

usage: markers.py [DATA] [-o TABLE.tsv] [SET ...]

For each data set with counts: domains of the default preset, K given. scanpy: rank_genes_groups (t-test, one domain
against the rest, as scanpy does by default) on total-count normalised, log1p values of all counts, genes with an
adjusted p-value below .05 and a positive score. Here: genes of stmfg.tl.markers by the same p-value against the rest,
on the other half of the molecules, and those that are specific. "not_there": genes among scanpy's that are seen at
least as often outside. "flat" is a tissue without domains: the spots of each set shuffled over the positions.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import protocol
import stmfg

HERE = Path(__file__).resolve().parent
SETS = ("dlpfc_151673", "her2st_H1", "st_mouse_olfactory_bulb_rep12", "starmap_visual_cortex_BY3_1k")


def count(adata: ad.AnnData, k: int) -> dict[str, float]:
    """Return the number of markers by each count, over all domains."""
    import scanpy as sc

    stmfg.tl.domains(adata, n_domains=k, finest_level=0)
    stmfg.tl.markers(adata, n_genes=adata.n_vars)
    table = adata.uns["stmfg_markers"]
    other = ad.AnnData(
        adata.X.astype(np.float32), obs=adata.obs[["stmfg_domain"]], var=pd.DataFrame(index=adata.var_names)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.normalize_total(other)
        sc.pp.log1p(other)
        sc.tl.rank_genes_groups(other, "stmfg_domain", method="t-test", pts=True)
        theirs = sc.get.rank_genes_groups_df(other, None)
    theirs = theirs[(theirs["pvals_adj"] < 0.05) & (theirs["scores"] > 0)]
    specific = table[table["specific"]]
    return {
        "genes": adata.n_vars,
        "scanpy": len(theirs),
        "scanpy_not_there": int((theirs["pct_nz_group"] <= theirs["pct_nz_reference"]).sum()),
        "held_out": int((table["p_adjusted"] < 0.05).sum()),
        "specific": len(specific),
        "domains_without": k - specific["domain"].nunique(),
    }


def main() -> None:
    """Run the sets, as they are and shuffled, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "markers.tsv")
    args = parser.parse_args()
    rows = []
    for source in protocol.manifest():
        if source.name not in args.sets:
            continue
        given = ad.read_h5ad(args.data / source.file)
        for flat in (False, True):
            adata = ad.AnnData(
                given.X, obs=pd.DataFrame(index=given.obs_names), var=pd.DataFrame(index=given.var_names)
            )
            place = np.random.default_rng(0).permutation(adata.n_obs) if flat else np.arange(adata.n_obs)
            adata.obsm["spatial"] = np.asarray(given.obsm["spatial"])[place]
            rows.append(
                {"set": source.name + (", flat" if flat else ""), "domains": source.k, **count(adata, source.k)}
            )
            print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(args.output, sep="\t", index=False)


if __name__ == "__main__":
    main()
