"""The number of domains chosen without labels, against the annotators', and what levels of the tree cost.

usage: number_of_domains.py [DATA] [-o TABLE.tsv] [--seeds N] [--choices N] [--only SET]

Of every set: the number that each of N seeds chooses (``--choices``; the choice does not look at the network, which
stays untrained for it), the accuracy at that number and at the annotators' (``--seeds``), and that of the level of the
tree around the chosen number which has the annotators' number. The lung section has no annotation.
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
LUNG = "visium_human_lung"
ALONE = {"redraws": 0, "finest_level": 0}


def choose(bare: ad.AnnData, rep: str | None, n_seeds: int) -> list[int]:
    """Return the number that each seed chooses."""
    chosen = []
    for seed in range(n_seeds):
        model = stmfg.STMFG(n_domains="auto", random_state=seed, epochs=0, n_votes=1, **ALONE).fit(bare, use_rep=rep)
        chosen.append(model.result.n_domains)
    return chosen


def measure(bare: ad.AnnData, source: protocol.Source, truth: pd.Series, seed: int) -> dict[str, float]:
    """Return the accuracy at the chosen number, at the annotators', and of the level of the tree in between."""

    def score(labels: pd.Series) -> float:
        return stmfg.metrics.ari(truth, labels.astype(str).loc[truth.index])

    adata = bare.copy()
    stmfg.tl.domains(adata, n_domains="auto", use_rep=source.rep or None, random_state=seed, redraws=0)
    row = {"ari_chosen": score(adata.obs["stmfg_domain"]), "ari_level": score(stmfg.tl.cut(adata, source.k))}
    stmfg.tl.domains(adata, n_domains=source.k, random_state=seed, **ALONE)
    return row | {"ari_annotated": score(adata.obs["stmfg_domain"])}


def main() -> None:
    """Choose K on every set of the manifest, and score the domains at both numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "number_of_domains.tsv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choices", type=int, default=10)
    parser.add_argument("--only", metavar="SET", help="measure one set; the table keeps what it says of others")
    args = parser.parse_args()
    kept = pd.read_csv(args.output, sep="\t") if args.only and args.output.exists() else pd.DataFrame({"set": []})
    sources = {source.name: source for source in protocol.manifest()}
    rows = []
    for name in [args.only] if args.only else [*sources, LUNG]:
        source = sources.get(name)
        if source is None:
            bare, truth, rep = stmfg.read(Path(args.data) / name / "outs"), None, None
        else:
            with tempfile.TemporaryDirectory() as scratch:
                task = protocol.prepare(source, Path(args.data), Path(scratch))
                bare, truth, rep = ad.read_h5ad(task.input), task.truth, source.rep or None
        chosen = choose(bare, rep, args.choices)
        for seed in range(max(args.seeds, args.choices)):
            row: dict[str, object] = {"set": name, "seed": seed, "annotated": source.k if source else np.nan}
            row["chosen"] = chosen[seed] if seed < len(chosen) else np.nan
            rows.append(row | (measure(bare, source, truth, seed) if source and seed < args.seeds else {}))
    table = pd.concat([kept[~kept["set"].isin([row["set"] for row in rows])], pd.DataFrame(rows)])
    table = table.sort_values(["set", "seed"])
    table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
    report(table)


def report(table: pd.DataFrame) -> None:
    """Print the table of the documentation."""
    print("| set | annotated | chosen, by seed | ARI at annotated | ARI at chosen | level of the tree |")
    print("|---|---|---|---|---|---|")
    for name, part in table.groupby("set"):
        chosen = ", ".join(f"{k:.0f}" for k in part["chosen"])
        scores = " | ".join(f"{part[key].mean():.3f}" for key in ("ari_annotated", "ari_chosen", "ari_level"))
        print(f"| {name} | {part['annotated'].iloc[0]:.0f} | {chosen} | {scores} |")
    off = (table["chosen"] - table["annotated"]).abs().groupby(table["set"]).mean().mean()
    means = table.groupby("set")[["ari_annotated", "ari_chosen", "ari_level"]].mean().mean()
    same = table.groupby("set")["chosen"].agg(lambda k: (k == k.mode().iloc[0]).mean())
    print(f"\n{off:.2f} off on average; the same number for at least {same.min():.0%} of the seeds of a set; ARI")
    print(", ".join(f"{value:.3f} {name.removeprefix('ari_')}" for name, value in means.items()))


if __name__ == "__main__":
    main()
