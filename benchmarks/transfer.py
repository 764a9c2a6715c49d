"""Domains of one slice in another without training, against training on it; and is an unrelated tissue noticed?

usage: transfer.py [DATA] [-o TABLE.tsv] [--seeds N]

Each pair of slices in both directions: the default preset finds K domains in the source, K being the number of its
annotated domains, and they are applied to the target, as the command does and with the source's Gaussians as they are
(``fixed``). ARI on the target's labelled spots, next to that of training on the target with the same seed. ``far`` is
the share of spots that lie beyond 99 % of the source's; more than half is a warning. Then every model is applied to
tissues it does not know. Written are ``TABLE.tsv`` and ``TABLE.md``.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

import anndata as ad
import pandas as pd

import protocol
import stmfg
from stmfg import metrics

HERE = Path(__file__).resolve().parent
PAIRS = (("dlpfc_151673", "dlpfc_151676"), ("starmap_mpfc_BZ5", "starmap_mpfc_BZ9"))
UNRELATED = ("her2st_B1", "her2st_H1", "starmap_visual_cortex_BY3_1k")
LUNG = "visium_human_lung/outs"
"""A Space Ranger folder without annotation, which no manifest lists."""
FIELDS = ["source", "target", "seed", "trained", "applied", "fixed", "genes_shared", "far", "cpu_train", "cpu_apply"]
NUMBERS = FIELDS[3:]


def ari(task: protocol.Task, adata: ad.AnnData) -> float:
    found = adata.obs.loc[task.truth.index, "stmfg_domain"].astype(str)
    return metrics.ari(task.truth.to_numpy(), found.to_numpy())


def trained(task: protocol.Task, k: int, seed: int) -> tuple[ad.AnnData, float]:
    """Return the unlabelled data with domains, and the CPU seconds it took."""
    adata, start = ad.read_h5ad(task.input), time.process_time()
    stmfg.tl.domains(adata, n_domains=k, random_state=seed)
    return adata, time.process_time() - start


def applied(reference: ad.AnnData, adata: ad.AnnData, *, adapt: bool = True) -> tuple[ad.AnnData, dict[str, float]]:
    """Return a copy with the reference's domains, and what is known of it."""
    start = time.process_time()
    result = stmfg.tl.apply(adata, reference, adapt=adapt, copy=True)
    record = result.uns["stmfg"]
    used = time.process_time() - start
    return result, {"genes_shared": record["genes_shared"], "far": float(record["far"][0]), "cpu_apply": used}


def pair(source: protocol.Task, target: protocol.Task, others: dict[str, ad.AnnData], seed: int) -> list[dict]:
    """Rows of one source and seed: the target's, then those of the tissues it does not know."""
    reference, _ = trained(source, source.source.k, seed)
    own, seconds = trained(target, target.source.k, seed)
    row = {"source": source.source.name, "target": target.source.name, "seed": seed, "cpu_train": seconds}
    given = ad.read_h5ad(target.input)
    result, about = applied(reference, given)
    fixed, _ = applied(reference, given, adapt=False)
    rows = [row | about | {"trained": ari(target, own), "applied": ari(target, result), "fixed": ari(target, fixed)}]
    for name, other in others.items():
        try:
            _, about = applied(reference, other)
        except stmfg.StmfgError:  # refused: too few genes are shared
            about = {}
        rows.append({"source": source.source.name, "target": name, "seed": seed} | about)
    return rows


def report(table: pd.DataFrame) -> str:
    """Mean and standard deviation over seeds, in two tables."""
    groups = table.groupby(["source", "target"], sort=False)
    mean, spread, seeds = groups[NUMBERS].mean(), groups[NUMBERS].std(ddof=1), groups.size()
    lines = [
        "| source | target | seeds | trained on the target | applied | applied, `adapt=False` | genes shared | far |",
        "|---|---|---|---|---|---|---|---|",
    ]
    unknown = ["| source | tissue it does not know | genes shared | far | |", "|---|---|---|---|---|"]
    for (source, target), row in mean.iterrows():
        genes = "too few" if pd.isna(row["far"]) else f"{row['genes_shared']:.0%}"
        far = "" if pd.isna(row["far"]) else f"{row['far']:.0%}"
        if pd.isna(row["applied"]):
            verdict = "refused" if pd.isna(row["far"]) else "warning" if row["far"] > 0.5 else "not noticed"
            unknown.append(f"| {source} | {target} | {genes} | {far} | {verdict} |")
            continue
        sd = spread.loc[(source, target)]
        cells = " | ".join(f"{row[name]:.3f} ± {sd[name]:.3f}" for name in ("trained", "applied", "fixed"))
        lines.append(f"| {source} | {target} | {seeds[source, target]} | {cells} | {genes} | {far} |")
    return "\n".join([*lines, "", *unknown, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "transfer.tsv")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    logging.getLogger("stmfg").setLevel(logging.ERROR)
    sources = {source.name: source for source in protocol.manifest()}
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as scratch:
        tasks = {}
        for name in {*sum(PAIRS, ()), *UNRELATED}:
            folder = Path(scratch) / name
            folder.mkdir()
            tasks[name] = protocol.prepare(sources[name], Path(args.data), folder)
        others = {name: ad.read_h5ad(tasks[name].input) for name in UNRELATED}
        others["human lung"] = stmfg.read(Path(args.data) / LUNG)
        for first, second in PAIRS:
            for source, target in ((first, second), (second, first)):
                for seed in range(args.seeds):
                    rows += pair(tasks[source], tasks[target], others if seed == 0 else {}, seed)
                    table = pd.DataFrame(rows, columns=FIELDS)
                    table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
    args.output.with_suffix(".md").write_text(report(table))


if __name__ == "__main__":
    main()
