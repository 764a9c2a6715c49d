"""Is the confidence honest? Spots in bins of confidence, and how many of each bin keep their domain in further runs.

usage: confidence.py [DATA] [-o FOLDER] [--work FOLDER] [--reruns N] [--jobs N] [--only SET ...]

The default preset is run with K given, and run again from the start on half of the molecules with other seeds, dealt by
numpy and not by stmfg (of a given embedding: the embedding with the noise of one half). Domains of each further run are
matched with those of the first one to one (Hungarian method); a spot is kept where they are the same. No annotation is
read.

Nothing is fitted here. Runs are kept in --work, so that sets can be done one at a time.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment

import protocol
import stmfg
from stmfg.model.thinning import split_embedding

HERE = Path(__file__).resolve().parent
EDGES = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0])
LEAST = 0.02
"""Bins with a smaller share of the spots say little."""


def take_half(adata: ad.AnnData, rep: str, seed: int) -> ad.AnnData:
    """Return the data with half of the molecules, or the embedding with the noise of one half."""
    half = adata.copy()
    if rep:
        stmfg.gr.spatial(half)
        graph = sparse.csr_matrix(half.obsp["spatial_connectivities"])
        half.obsm[rep] = split_embedding(np.asarray(adata.obsm[rep], dtype=np.float32), graph, seed)[seed % 2]
        del half.obsp["spatial_connectivities"]
        half.uns.clear()
        return half
    counts = sparse.csr_matrix(adata.X).copy()
    counts.data = np.random.default_rng(seed).binomial(np.rint(counts.data).astype(int), 0.5).astype(np.float32)
    counts.eliminate_zeros()
    half.X = counts
    return half


def find(source: protocol.Source, data: Path, rerun: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and confidence of the run itself (0), or of a further one, on half of the molecules."""
    given = ad.read_h5ad(data / source.file)
    adata = ad.AnnData(given.X, obs=pd.DataFrame(index=given.obs_names), var=pd.DataFrame(index=given.var_names))
    for key in filter(None, ("spatial", source.rep)):
        adata.obsm[key] = np.asarray(given.obsm[key])
    options = {"finest_level": 0, "use_rep": source.rep or None}
    if rerun:
        adata = take_half(adata, source.rep, 1000 + rerun)
        options["redraws"] = 0
    stmfg.tl.domains(adata, n_domains=source.k, random_state=rerun, **options)
    return adata.obs["stmfg_domain"].astype(int).to_numpy(), adata.obs["stmfg_confidence"].to_numpy(np.float64)


def keeps(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Tell for each spot whether the domain of another run that it is in is the one matched with its own."""
    table = pd.crosstab(labels, other)
    rows, columns = linear_sum_assignment(-table.to_numpy())
    partner = dict(zip(table.index[rows], table.columns[columns], strict=True))
    return np.array([partner.get(label) for label in labels]) == other


def measure(source: protocol.Source, data: Path, work: Path, reruns: int) -> pd.DataFrame:
    """Return confidence and the share of the further runs that keep each spot, run if it was not before."""
    path = work / f"{source.name}.tsv"
    if not path.exists():
        labels, confidence = find(source, data, 0)
        kept = np.mean([keeps(labels, find(source, data, i)[0]) for i in range(1, reruns + 1)], axis=0)
        pd.DataFrame({"confidence": confidence, "kept": kept}).to_csv(path, sep="\t", index=False)
    return pd.read_csv(path, sep="\t")


def bins_of(confidence: np.ndarray, kept: np.ndarray) -> pd.DataFrame:
    """Return the reliability curve: spots, mean confidence and share kept, by bins of confidence."""
    place = np.clip(np.digitize(confidence, EDGES) - 1, 0, len(EDGES) - 2)
    table = pd.DataFrame({"from": EDGES[place], "to": EDGES[place + 1], "confidence": confidence, "kept": kept})
    curve = table.groupby(["from", "to"]).agg(
        spots=("kept", "size"), confidence=("confidence", "mean"), kept=("kept", "mean")
    )
    return curve.reset_index()


def deviation(curve: pd.DataFrame) -> tuple[float, float]:
    """Return the mean distance of the curve from the diagonal over spots, and the largest of bins that matter."""
    gap, share = (curve["confidence"] - curve["kept"]).abs(), curve["spots"] / curve["spots"].sum()
    return float((gap * share).sum()), float(gap[share >= LEAST].max())


def main() -> None:
    """Run what is not there yet and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, default=Path("confidence"))
    parser.add_argument("--reruns", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    sources = [source for source in protocol.manifest() if not args.only or source.name in args.only]
    how = [[args.data] * len(sources), [args.work] * len(sources), [args.reruns] * len(sources)]
    with ProcessPoolExecutor(args.jobs) as pool:
        sets = dict(zip([s.name for s in sources], pool.map(measure, sources, *how), strict=True))
    curves, lines = [], []
    for name, part in sets.items():
        curve = bins_of(part["confidence"].to_numpy(), part["kept"].to_numpy())
        curves.append(curve.assign(set=name)[["set", "from", "to", "spots", "confidence", "kept"]])
        lines.append((name, *part.mean()[["confidence", "kept"]], *deviation(curve)))
    pd.concat(curves).to_csv(args.output / "confidence.tsv", sep="\t", index=False, float_format="%.4f")
    text = [
        f"The default preset, K given, and {args.reruns} further whole runs on half of the molecules with other seeds",
        "(`benchmarks/confidence.py`). Deviation: mean distance of the reliability curve from the diagonal over spots;",
        f"in brackets the largest of bins with at least {LEAST:.0%} of the spots.",
        "",
        "| set | mean confidence | kept | deviation |",
        "|---|---|---|---|",
        *(f"| {n} | {c:.3f} | {k:.3f} | {d:.3f} ({w:.2f}) |" for n, c, k, d, w in lines),
    ]
    (args.output / "confidence.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
