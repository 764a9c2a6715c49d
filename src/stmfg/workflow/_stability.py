"""How much of a result depends on the seed: the same run again with other seeds, and how well they agree."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from stmfg import tl
from stmfg._core.progress import showing
from stmfg._core.stored_graph import RECORD
from stmfg._core.timing import recording
from stmfg._keys import COUNTS, DOMAIN, FEATURE_GRAPH, SPATIAL, SPATIAL_GRAPH, UNS
from stmfg.metrics import ari

if TYPE_CHECKING:
    from anndata import AnnData

    from stmfg.workflow.options import RunOptions

logger = logging.getLogger("stmfg")


def measure_stability(adata: AnnData, options: RunOptions) -> dict[str, Any]:
    """Repeat a finished run with the next seeds and compare the domains.

    Everything that has a seed is done anew: the training, the clusterings, and the choice of the number of domains
    where that was not given.

    Returns
    -------
    ``seeds``; ``ari``, the adjusted Rand index (Hubert and Arabie 1985) between the result and each further run, 1
    where they agree on every spot and 0 as by chance; its mean, ``mean_ari``; ``n_domains`` of each further run.
    """
    seeds = [(options.random_state + i) % 2**32 for i in range(1, options.stability + 1)]
    n_domains, agreement = [], []
    level = logger.level
    logger.setLevel(logging.ERROR)  # the run itself has given the warnings
    try:
        for seed in seeds:
            other = _input(adata, options)
            with recording(), showing(show=False):  # these stages are not those of the run
                tl.domains(other, **replace(options, random_state=seed).for_domains())
            n_domains.append(int(other.uns[UNS]["n_domains"]))
            agreement.append(ari(adata.obs[DOMAIN].astype(str), other.obs[DOMAIN].astype(str)))
    finally:
        logger.setLevel(level)
    return {"seeds": seeds, "ari": agreement, "mean_ari": sum(agreement) / len(seeds), "n_domains": n_domains}


def _input(adata: AnnData, options: RunOptions) -> AnnData:
    """Return what a run reads of its input, with no array copied; the spatial graph need not be built again."""
    from anndata import AnnData

    obsm_keys = {SPATIAL, options.use_rep, *options.config.extra_views.values()} - {None}
    return AnnData(
        adata.X,
        obs=adata.obs[[] if options.library_key is None else [options.library_key]],
        var=pd.DataFrame(index=adata.var_names),
        obsm={key: adata.obsm[key] for key in obsm_keys},
        obsp={key: adata.obsp[key] for key in (SPATIAL_GRAPH, FEATURE_GRAPH) if key in adata.obsp},
        layers={key: adata.layers[key] for key in (COUNTS, options.layer) if key in adata.layers},
        uns={UNS: {RECORD: adata.uns[UNS][RECORD]}},  # of the graph
    )
