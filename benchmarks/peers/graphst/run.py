"""GraphST, clustered by R's mclust and refined by its own majority vote on arrays of spots.

Settings: https://deepst-tutorials.readthedocs.io/en/latest/Tutorial%201_10X%20Visium.html (10x: defaults, 20 principal
components of the reconstruction, mclust EEE with K components, vote among 50 neighbours) and, for cells, the same
site's page on Stereo-seq (datatype "Stereo", no vote). mclust is called through Rscript: R with mclust must be there. A
given embedding takes the place of the scaled expression.
"""

import subprocess
import tempfile
from pathlib import Path

import common
import numpy as np
import torch
from GraphST.GraphST import GraphST
from GraphST.utils import refine_label
from sklearn.decomposition import PCA

MCLUST = """
suppressPackageStartupMessages(library(mclust))
a <- commandArgs(trailingOnly = TRUE)
set.seed(as.integer(a[3]))
fit <- Mclust(as.matrix(read.csv(a[1], header = FALSE)), G = as.integer(a[2]), modelNames = "EEE", verbose = FALSE)
write(fit$classification, a[4], ncolumns = 1)
"""


def mclust(x, k, seed):
    with tempfile.TemporaryDirectory() as folder:
        table, script, result = (Path(folder, name) for name in ("x.csv", "mclust.R", "labels.txt"))
        np.savetxt(table, x, delimiter=",")
        script.write_text(MCLUST)
        subprocess.run(["Rscript", str(script), str(table), str(k), str(seed), str(result)], check=True)
        return np.loadtxt(result, dtype=int)


def domains(adata, args):
    datatype = "10X" if args.kind == "spots" else "Stereo"
    if args.use_rep:
        adata = common.embedded(adata, args.use_rep)
        adata.var["highly_variable"] = True  # tells GraphST that X is ready
    model = GraphST(adata, device=torch.device("cpu"), random_seed=args.seed, datatype=datatype)
    adata = model.train()
    reduced = PCA(n_components=20, random_state=42).fit_transform(adata.obsm["emb"].copy())
    adata.obs["domain"] = mclust(reduced, args.k, args.seed).astype(str)
    if args.kind == "cells":
        return adata.obs["domain"].to_numpy()
    return refine_label(adata, radius=50, key="domain")


if __name__ == "__main__":
    common.main(domains)
