"""Is the confidence honest? Spots in bins of confidence, and how many of each bin keep their domain in further runs.

usage: confidence.py [DATA] [-o FOLDER] [--work FOLDER] [--seeds N] [--reruns N] [--jobs N] [--only SET ...]
                     [--minutes M]

The default preset is run with K given, and run again from the start on half of the molecules with other seeds, dealt by
numpy and not by stmfg (of a given embedding: the embedding with the noise of one half). Domains of each further run are
matched with those of the first one to one (Hungarian method); a spot is kept where they are the same. No annotation is
read. Nothing is fitted here. Neighbourhoods are narrow or wide as the first run decided: that is no draw of molecules.

The floor is what the further runs themselves are worth as a prediction: the share of a third of them that keeps a spot
in place of the confidence, compared with the others. Runs are kept in --work; after --minutes no further one begins,
and the same command goes on with it later.
"""

from __future__ import annotations

import argparse
import os
import time
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


def find(source: protocol.Source, data: Path, seed: int, *, half: bool, neighborhoods: str) -> dict[str, np.ndarray]:
    """Return labels, confidence and neighbourhoods of the run itself, or of one on half of the molecules."""
    given = ad.read_h5ad(data / source.file)
    adata = ad.AnnData(given.X, obs=pd.DataFrame(index=given.obs_names), var=pd.DataFrame(index=given.var_names))
    for key in filter(None, ("spatial", source.rep)):
        adata.obsm[key] = np.asarray(given.obsm[key])
    options = {"finest_level": 0, "use_rep": source.rep or None, "neighborhoods": neighborhoods}
    if half:
        seed += 1001  # of no other run
        adata, options["redraws"] = take_half(adata, source.rep, seed), 0
    stmfg.tl.domains(adata, n_domains=source.k, random_state=seed, **options)
    return {
        "labels": adata.obs["stmfg_domain"].astype(int).to_numpy(),
        "confidence": adata.obs["stmfg_confidence"].to_numpy(np.float64),
        "neighborhoods": np.array(adata.uns["stmfg"]["params"]["neighborhoods"]),
    }


def keeps(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Tell for each spot whether the domain of another run that it is in is the one matched with its own."""
    table = pd.crosstab(labels, other)
    rows, columns = linear_sum_assignment(-table.to_numpy())
    partner = dict(zip(table.index[rows], table.columns[columns], strict=True))
    return np.array([partner.get(label) for label in labels]) == other


def measure(source: protocol.Source, data: Path, work: Path, wanted: tuple[int, int], until: float) -> bool:
    """Run what is not there yet: ``wanted`` seeds of the run itself and further ones; tell whether all is there."""
    for kind, number in zip(("run", "rerun"), wanted, strict=True):
        for i in range(1, number + 1):
            path = work / f"{source.name}-{kind}-{i}.npz"
            if not path.exists():
                if time.monotonic() > until:
                    return False
                first = work / f"{source.name}-run-1.npz"  # half of the molecules decide nothing anew
                decided = str(np.load(first)["neighborhoods"]) if first.exists() else "auto"
                np.savez(path, **find(source, data, i - 1, half=kind == "rerun", neighborhoods=decided))
    return True


def compare(source: protocol.Source, work: Path, seeds: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the reliability curve over all seeds of a set, and its line of the table."""
    reruns = [np.load(path)["labels"] for path in sorted(work.glob(f"{source.name}-rerun-*.npz"))]
    curves, rows = [], []
    for i in range(1, seeds + 1):
        run = np.load(work / f"{source.name}-run-{i}.npz")
        kept = np.array([keeps(run["labels"], other) for other in reruns])
        third = max(1, len(kept) // 3)
        of_floor = deviation(bins_of(kept[:third].mean(axis=0), kept[third:].mean(axis=0)))[0]
        curve = bins_of(run["confidence"], kept.mean(axis=0))
        off, worst = deviation(curve)
        rows.append([run["confidence"].mean(), kept.mean(), off, worst, of_floor])
        curves.append(curve.assign(set=source.name, seed=i - 1))
    mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
    names = ("confidence", "kept", "deviation", "worst", "floor")
    return pd.concat(curves), dict(zip(names, mean, strict=True)) | {"spread": float(spread[2]), "runs": len(reruns)}


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
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--reruns", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--minutes", type=float, default=np.inf)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    sources = [source for source in protocol.manifest() if not args.only or source.name in args.only]
    wanted, until = (args.seeds, args.reruns), time.monotonic() + 60 * args.minutes
    with ProcessPoolExecutor(args.jobs) as pool:
        how = ([each] * len(sources) for each in (args.data, args.work, wanted, until))
        if not all(pool.map(measure, sources, *how)):
            print("there is more to run: give the command again")
            return
    curves, rows = zip(*(compare(source, args.work, args.seeds) for source in sources), strict=True)
    columns = ["set", "seed", "from", "to", "spots", "confidence", "kept"]
    pd.concat(curves)[columns].to_csv(args.output / "confidence.tsv", sep="\t", index=False, float_format="%.4f")
    row = "| {} | {runs} | {confidence:.3f} | {kept:.3f} | {deviation:.3f} ± {spread:.3f} ({worst:.2f}) | {floor:.3f} |"
    text = [
        f"The default preset, K given, {args.seeds} seeds, and further whole runs on half of the molecules with other",
        "seeds (`benchmarks/confidence.py`). Deviation: mean distance of the reliability curve from the diagonal over",
        "spots, mean and standard deviation over seeds; in brackets the largest of bins with at least",
        f"{LEAST:.0%} of the spots. Floor: the deviation where a third of the further runs take the place of the",
        "confidence.",
        "",
        "| set | further runs | mean confidence | kept | deviation | floor |",
        "|---|---|---|---|---|---|",
        *(row.format(source.name, **values) for source, values in zip(sources, rows, strict=True)),
        "",
        f"Mean {np.mean([row['deviation'] for row in rows]):.3f}; within .05 on "
        f"{sum(row['deviation'] <= 0.05 for row in rows)} of {len(rows)} sets.",
    ]
    (args.output / "confidence.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
