"""Domains found again from half of the molecules: what is written to an AnnData, and read for tests on the other."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from stmfg._core.labels import labels
from stmfg._core.timing import stage
from stmfg._core.tissue import read_tissue
from stmfg._keys import CONFIDENCE, DOMAIN, HALF, MARKERS, UNS
from stmfg.config import Config
from stmfg.errors import InputError
from stmfg.model import halves
from stmfg.model.estimator import Begun
from stmfg.model.inputs import prepare
from stmfg.model.plugins import Plugins
from stmfg.model.thinning import Half
from stmfg.model.threads import beside
from stmfg.model.train import pick_device
from stmfg.tl._marker_tests import moments, rank

logger = logging.getLogger("stmfg")


def name_half(key: str) -> str:
    """Return the column of ``obs`` with the domains of ``key`` as half of the molecules shows them."""
    return HALF if key == DOMAIN else f"{key}_half"


def write_redraws(
    adata: AnnData,
    key: str,
    config: Config,
    random_state: int,
    plugins: Plugins,
    *,
    device: str,
    begun: Begun | None = None,
    mixtures: bool | None = None,
    **where: Any,
) -> None:
    """Find the domains of ``key`` again in halves of the molecules; write their labels and the confidence.

    Parameters as of :func:`stmfg.model.halves.begin_redraws`, and those of :func:`stmfg._core.tissue.read_tissue`.
    """
    half = name_half(key)
    adata.obs.drop(columns=half, errors="ignore", inplace=True)  # of earlier domains
    record: dict[str, Any] = adata.uns[UNS]
    record.get("halves", {}).pop(key, None)
    if key == DOMAIN:
        adata.uns.pop(MARKERS, None)
    if not config.redraws:
        return
    use_rep = record.get("use_rep")
    domains = labels(adata, key)
    codes = np.array(domains.codes, dtype=np.int64)
    where |= {"library_key": where["library_key"] or record.get("library_key"), "use_rep": use_rep}
    level, problem = logger.level, None
    with stage("halves"):
        logger.setLevel(logging.ERROR)  # the warnings were given where the domains were found
        try:
            if begun is not None:
                order, match = begun
            else:
                spots, order = prepare(read_tissue(adata, config=config, **where), config)
                how = config, random_state, mixtures, plugins.clusterer, pick_device(device)
                match = halves.begin_redraws(spots, None, *how)
            redraws = match(codes[order])
        except InputError as error:  # the counts are no longer there, or half of the molecules are too few
            problem = error
        finally:
            logger.setLevel(level)
    if problem is not None:
        logger.info("confidence is the share of the vote, for halves of the molecules cannot be used: %s", problem)
        return
    codes[order] = redraws.labels
    if use_rep is None:
        adata.obs[half] = pd.Categorical.from_codes(codes, categories=domains.categories)
    confidence = np.zeros(adata.n_obs, dtype=np.float32)
    confidence[order] = redraws.confidence
    adata.obs[CONFIDENCE if key == DOMAIN else f"{key}_confidence"] = confidence
    record.setdefault("halves", {})[key] = {
        "random_state": random_state,
        "n": config.redraws,
        "domains": np.asarray(domains.categories, dtype=object),
        "found_again": redraws.found_again,
    }


def rank_markers(adata: AnnData, key: str, domains: pd.Categorical[Any], counts: Any) -> pd.DataFrame:
    """Return all genes that are higher in a domain than outside, best first, see :func:`stmfg.tl.markers`."""
    genes = adata.var_names.to_numpy()
    half = name_half(key)
    record = adata.uns.get(UNS, {}).get("halves", {}).get(key)
    tested = None
    if record is not None and half in adata.obs:
        again = labels(adata, half)
        if set(again.categories) <= set(domains.categories) and (again.codes >= 0).all():
            names_and_seed = adata.obs_names, adata.var_names, int(record["random_state"])
            tested = beside(moments, Half.of_matrix(counts, *names_and_seed, other=True), again)
    whole = moments(counts, domains)
    table = rank(whole, genes, None, tested and tested())
    if tested is None and key.startswith(DOMAIN.partition("_")[0]):  # found in these counts
        table[["p_adjusted", "p_adjusted_next"]] = np.nan
    return table
