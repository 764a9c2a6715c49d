"""How much of a result depends on the seed: the same run again with other seeds, and how well they agree."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd

from stmfg import tl
from stmfg._core.timing import recording
from stmfg._keys import COUNTS, DOMAIN, FEATURE_GRAPH, SPATIAL, SPATIAL_GRAPH, UNS
from stmfg.metrics import ari

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("stmfg")


def stability(
    adata: AnnData,
    n_runs: int,
    *,
    n_domains: int | str,
    use_rep: str | None,
    library_key: str | None,
    random_state: int,
    **options: Any,
) -> dict[str, Any]:
    """Repeat a finished run with the next seeds and compare the domains.

    Everything that has a seed is done anew: the training, the clusterings, and the choice of the number of domains
    where that was not given.

    Parameters
    ----------
    adata
        With a result of :func:`stmfg.tl.domains`; not changed.
    n_runs
        Further runs.
    n_domains, use_rep, library_key, random_state
        As the result was made with.
    options
        The others of :func:`stmfg.tl.domains`.

    Returns
    -------
    ``seeds``; ``ari``, the adjusted Rand index (Hubert and Arabie 1985) between the result and each further run, 1
    where they agree on every spot and 0 as by chance; its mean, ``mean_ari``; ``n_domains`` of each further run.
    """
    seeds = [(random_state + i) % 2**32 for i in range(1, n_runs + 1)]
    found, agreement = [], []
    level = logger.level
    logger.setLevel(logging.ERROR)  # what there is to say was said by the run itself
    try:
        for seed in seeds:
            other = _input(adata, use_rep, library_key)
            with recording():  # these stages are not those of the run
                tl.domains(
                    other, n_domains=n_domains, use_rep=use_rep, library_key=library_key, random_state=seed, **options
                )
            found.append(int(other.uns[UNS]["n_domains"]))
            agreement.append(ari(adata.obs[DOMAIN].astype(str), other.obs[DOMAIN].astype(str)))
    finally:
        logger.setLevel(level)
    return {"seeds": seeds, "ari": agreement, "mean_ari": sum(agreement) / n_runs, "n_domains": found}


def _input(adata: AnnData, use_rep: str | None, library_key: str | None) -> AnnData:
    """Return what a run reads of its input, with no array copied; the spatial graph need not be built again."""
    from anndata import AnnData

    return AnnData(
        adata.X,
        obs=adata.obs[[] if library_key is None else [library_key]],
        var=pd.DataFrame(index=adata.var_names),
        obsm={key: adata.obsm[key] for key in (SPATIAL, use_rep) if key is not None},
        obsp={key: adata.obsp[key] for key in (SPATIAL_GRAPH, FEATURE_GRAPH) if key in adata.obsp},
        layers={COUNTS: adata.layers[COUNTS]} if COUNTS in adata.layers else None,
    )
