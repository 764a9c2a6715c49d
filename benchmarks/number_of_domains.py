"""The number of domains chosen without labels, against the annotators', and what levels of the tree cost.

usage: number_of_domains.py [DATA] [-o TABLE.tsv] [--seeds N] [--choices N] [--only SET] [--left-out STARTS]

Of every set: the number that each of N seeds chooses (``--choices``; the choice does not look at the network, which
stays untrained for it), the accuracy at that number and at the annotators' and two less and more (``--seeds``), and
that of the levels of the tree around the chosen number which have these numbers. The lung section has no annotation.

With ``--left-out``, in place of that: the largest number that is tried and the observations a domain needs are chosen
on all families of data but one, by the distance to the annotators' number, and used on the family that was left out,
with so many sets of other starts of the clusterings. A run has no such chance: its starts do not follow its seed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from itertools import product
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import protocol
import stmfg
from stmfg.model import number
from stmfg.model.survey import survey

HERE = Path(__file__).resolve().parent
LUNG = "visium_human_lung"
ALONE = {"redraws": 0, "finest_level": 0}
STEPS = (-2, 0, 2)
MOST = (10, 12, 15, 18, 20)
LEAST_PER_DOMAIN = (5, 10, 20, 40)


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
    row = {"ari_chosen": score(adata.obs["stmfg_domain"])}
    levels = [source.k + step for step in STEPS if source.k + step in stmfg.tl.levels(adata).index]
    row |= {f"level{k - source.k:+d}": score(stmfg.tl.cut(adata, k)) for k in levels}
    for k in levels:  # the embedding is there: only clustered
        stmfg.tl.domains(adata, n_domains=k, random_state=seed, **ALONE)
        row[f"alone{k - source.k:+d}"] = score(adata.obs["stmfg_domain"])
    return row


def list_choices(source: protocol.Source, data: Path, starts: int) -> pd.DataFrame:
    """Return the number that is chosen with every pair of thresholds, for several sets of starts."""
    given = ad.read_h5ad(data / source.file)
    model = stmfg.STMFG(n_domains=None, epochs=0, **ALONE).fit(given, use_rep=source.rep or None)
    result, rows = model.result, []
    used = np.flatnonzero(~result.left_out)
    what = result.base.subset(used), result.embedding[used], result.coordinates[used], None
    for start in range(starts):
        surveyed = survey(*what, range(2, max(MOST) + 1), number.N_CLUSTERINGS, random_state=start)
        for most, least in product(MOST, LEAST_PER_DOMAIN):
            chosen = number.choose_number(surveyed, most, least).chosen
            rows.append([source.name, family(source), start, most, least, chosen, abs(chosen - source.k)])
    return pd.DataFrame(rows, columns=["set", "family", "start", "most", "least", "chosen", "off"])


def family(source: protocol.Source) -> str:
    """Return what a set is one of: cells of a platform, or spots of a tissue."""
    return source.platform if source.kind == "cells" else source.origin.split(",")[0]


def leave_out(data: Path, starts: int) -> list[str]:
    """Return the table of what is chosen on a family that had no say in the thresholds."""
    table = pd.concat([list_choices(source, data, starts) for source in protocol.manifest()])
    lines, offs = ["| left out | largest number, observations a domain | off | as committed |", "|---|---|---|---|"], []
    pairs = ["most", "least"]
    committed = (number.MOST, number.LEAST_PER_DOMAIN)
    for name, part in table.groupby("family"):
        others = table[table["family"] != name].groupby([*pairs, "family"])["off"].mean().groupby(pairs).mean()
        pair = committed if others[committed] <= others.min() else others.idxmin()
        off = part.groupby(pairs)["off"].mean()
        offs.append([off[pair], off[committed]])
        lines.append(
            f"| {name} ({part['set'].nunique()}) | {pair[0]}, {pair[1]} | {off[pair]:.2f} | {off[committed]:.2f} |"
        )
    as_committed = table[(table["most"] == committed[0]) & (table["least"] == committed[1])]
    sets = as_committed.groupby("set")
    same = sets["chosen"].agg(lambda k: (k == k.mode().iloc[0]).mean())
    spread = as_committed.groupby("start")["off"].mean()
    mean = np.mean(offs, axis=0)
    return [
        *lines,
        "",
        f"{mean[0]:.2f} off where the family was left out, {mean[1]:.2f} with {committed[0]} and {committed[1]}",
        f"(means of families). Over sets {spread.mean():.2f} ± {spread.std(ddof=0):.2f} with other starts ({starts} of",
        f"them). The number is the most frequent one of its set in {same.mean():.0%} of these, on {same.idxmin()} in",
        f"{same.min():.0%}.",
        "",
        "| set | chosen, by start |",
        "|---|---|",
        *(f"| {name} | {', '.join(map(str, part['chosen']))} |" for name, part in sets),
    ]


def main() -> None:
    """Choose K on every set of the manifest, and score the domains at both numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "number_of_domains.tsv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choices", type=int, default=10)
    parser.add_argument("--only", metavar="SET", help="measure one set; the table keeps what it says of others")
    parser.add_argument("--left-out", type=int, metavar="STARTS")
    args = parser.parse_args()
    if args.left_out:
        lines = leave_out(Path(args.data), args.left_out)
        (args.output.parent / "number_left_out.md").write_text("\n".join(lines) + "\n")
        print("\n".join(lines))
        return
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
    args.output.with_suffix(".md").write_text("\n".join(report(table)) + "\n")
    print(args.output.with_suffix(".md").read_text())


def report(table: pd.DataFrame) -> list[str]:
    """Return the tables of the documentation."""
    heads = ("set", "annotated", "chosen, by seed", "ARI there", "level at the annotated number", "clustered at it")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, part in table.groupby("set"):
        chosen = ", ".join(f"{k:.0f}" for k in part["chosen"].dropna())
        scores = " | ".join(f"{part[key].mean():.3f}" for key in ("ari_chosen", "level+0", "alone+0"))
        lines.append(f"| {name} | {part['annotated'].iloc[0]:.0f} | {chosen} | {scores} |")
    off = (table["chosen"] - table["annotated"]).abs().groupby(table["set"]).mean().mean()
    means = table.groupby("set").mean(numeric_only=True)
    same = table.groupby("set")["chosen"].agg(lambda k: (k == k.mode().iloc[0]).mean())
    lost = (means["alone+0"] - means["ari_chosen"]).mean()
    lines += [
        "",
        f"{off:.2f} off on average; the same number for at least {same.min():.0%} of the seeds of a set; ARI lost by",
        f"not knowing the number {lost:.4f}.",
        "",
        "What nesting costs: ARI of clustering at a number by itself less that of the level of the tree around the",
        "chosen number, mean and standard deviation over sets.",
        "",
        "| number | sets | cost |",
        "|---|---|---|",
    ]
    for step in STEPS:
        cost = (means[f"alone{step:+d}"] - means[f"level{step:+d}"]).dropna()
        lines.append(f"| annotated{step:+d} | {len(cost)} | {cost.mean():.3f} ± {cost.std(ddof=0):.3f} |")
    return lines


if __name__ == "__main__":
    main()
