"""The number of domains chosen without labels, against the annotators'.

usage: number_of_domains.py [DATA] [-o TABLE.tsv] [--seeds N]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import protocol
import stmfg

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Choose K on every set of the manifest, and score the domains at both numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "number_of_domains.tsv")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for source in protocol.manifest():
        with tempfile.TemporaryDirectory() as scratch:
            task = protocol.prepare(source, Path(args.data), Path(scratch))
            bare = ad.read_h5ad(task.input)
        for seed in range(args.seeds):
            adata = bare.copy()
            row: dict[str, object] = {"set": source.name, "seed": seed, "annotated": source.k}
            stmfg.tl.domains(adata, n_domains="auto", use_rep=source.rep or None, random_state=seed)
            row["chosen"] = adata.uns["stmfg"]["n_domains"]
            evidence = adata.uns["stmfg"]["n_domains_evidence"]
            row["evidence"] = " ".join(f"{value:.1f}" for value in evidence)
            found = adata.obs["stmfg_domain"].astype(str)
            row["ari_chosen"] = stmfg.metrics.ari(task.truth, found.loc[task.truth.index])
            stmfg.tl.domains(adata, n_domains=source.k, random_state=seed)
            found = adata.obs["stmfg_domain"].astype(str)
            row["ari_annotated"] = stmfg.metrics.ari(task.truth, found.loc[task.truth.index])
            rows.append(row)
    table = pd.DataFrame(rows)
    table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
    print("| set | annotated K | chosen K, by seed | ARI at annotated K | ARI at chosen K |\n|---|---|---|---|---|")
    for name, part in table.groupby("set"):
        chosen = ", ".join(map(str, part["chosen"]))
        print(
            f"| {name} | {part['annotated'].iloc[0]} | {chosen} | {part['ari_annotated'].mean():.3f} "
            f"| {part['ari_chosen'].mean():.3f} |"
        )
    off = np.abs(table["chosen"] - table["annotated"])
    print(
        f"\noff by {off.mean():.1f} on average; "
        f"ARI {table['ari_annotated'].mean():.3f} -> {table['ari_chosen'].mean():.3f}"
    )


if __name__ == "__main__":
    main()
