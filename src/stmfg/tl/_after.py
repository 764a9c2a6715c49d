"""What is done with domains once they are found: genes, neighbours, parts, sums of counts. Users call it in ``tl``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from stmfg._core import checks
from stmfg._core.blocks import OnDisk, row_blocks
from stmfg._core.checks import library_names
from stmfg._core.labels import labels
from stmfg._keys import ADJACENCY, DOMAIN, MARKERS, SPATIAL_GRAPH, SUBDOMAIN
from stmfg.errors import InputError, require
from stmfg.model.domains import find_domains
from stmfg.model.plugins import Plugins
from stmfg.tl._contacts import count_contacts
from stmfg.tl._halves import rank_markers
from stmfg.tl._write import read_embedding, trained_config, write_colours


def markers(
    adata: AnnData,
    *,
    key: str = DOMAIN,
    layer: str | None = None,
    n_genes: int = 10,
    key_added: str = MARKERS,
    copy: bool = False,
) -> AnnData | None:
    """Find the genes that tell each domain from the others.

    Counts are scaled to the median depth and log-transformed. A gene is *specific* to a domain when it is seen in at
    least a tenth of its observations, is 1.5 times as high there as in any other domain, and a test says so. Domains
    are found where expression differs, so that testing them on the same counts always finds something. Here the tests
    (Welch's, one-sided) are made on one half of the molecules, between the domains that the other half alone shows
    (Neufeld et al. 2022): a tissue without domains has no markers. Genes that less than one in a hundred
    observations shows are left out. The p-values say that expression differs between these places of this tissue, not
    that it does in another donor.

    Parameters
    ----------
    adata
        Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``.
    key
        Column of ``obs`` with the domains; every observation needs one.
    layer
        Layer with the raw counts.
    n_genes
        How many genes at most for each domain.
    key_added
        Key of ``uns`` to write to.
    copy
        Return a changed copy instead of changing ``adata``.

    Returns
    -------
    ``None``, or the copy. Written:

    ``uns["stmfg_markers"]``
        Table with one row for each domain and gene, best first: ``domain``, ``gene``; ``specific``;
        ``log2_fold_change`` of the normalised counts against all other observations, ``share_in`` and ``share_out`` (of
        observations in which the gene is seen), ``score`` (t) and ``p_adjusted`` (Benjamini-Hochberg over the genes of
        a domain); ``next_domain``, the other domain where the gene is highest, ``log2_fold_change_next`` and
        ``share_next`` against that one, and ``p_adjusted_next``, of being higher than in every other domain. The
        p-values are NaN where the domains were found in the counts and there is no other half to test them on.

    References
    ----------
    Neufeld, Gao, Popp, Battle and Witten (2022), Inference after latent variable estimation for single-cell RNA
    sequencing data, Biostatistics 25, 270-287. Berger (1982), Multiparameter hypothesis testing and acceptance
    sampling, Technometrics 24, 295-300, for testing against every other domain.
    """
    domain = _complete(adata, key)
    every = rank_markers(adata, key, domain, checks.counts(adata, layer))
    table = every.groupby("domain", sort=False).head(n_genes).reset_index(drop=True)
    adata = adata.copy() if copy else adata
    adata.uns[key_added] = table.set_axis(table.index.astype(str), axis=0)  # as it comes back from a file
    return adata if copy else None


def adjacency(
    adata: AnnData,
    *,
    key: str = DOMAIN,
    library_key: str | None = None,
    key_added: str = ADJACENCY,
    copy: bool = False,
) -> AnnData | None:
    """Count how often domains touch, and how often they would if the labels outside each domain were shuffled.

    Of the c_i pairs of neighbours that join domain i to the rest of a slice of n observations, shuffling the rest leads
    ``c_i * n_j / (n - n_i)`` to domain j. Shuffling all labels, as squidpy's neighbourhood enrichment does, would only
    say of compact domains, which have few borders, that they are compact. Nothing is said of pairs within a domain, for
    there is nothing outside to shuffle. No p-value goes with it: the labels of neighbours are alike whatever they
    touch, so that shuffled ones are no fair draw; the ratio is an effect, to be compared between samples.

    Parameters
    ----------
    adata
        Spatial graph in ``obsp["spatial_connectivities"]``; who is linked is a neighbour, whatever the weight.
    key
        Column of ``obs`` with the domains; every observation needs one.
    library_key
        Column of ``obs`` that names the slice; labels are shuffled within each slice.
    key_added
        Key of ``uns`` to write to.
    copy
        Return a changed copy instead of changing ``adata``.

    Returns
    -------
    ``None``, or the copy. Written:

    ``uns["stmfg_adjacency"]``
        Table with one row for each ordered pair of domains: ``domain``, ``neighbor``, ``observed`` and ``expected``
        pairs of neighbours, each pair once, and their ``ratio``, above 1 where domains touch more than by chance; NaN
        where none are expected, and within a domain. What is expected differs with the order: it is the rest of
        ``domain`` that is shuffled.
    """
    domain = _complete(adata, key)
    graph = require(adata, "obsp", SPATIAL_GRAPH, "run stmfg.gr.spatial(adata) first")
    slices = np.zeros(adata.n_obs) if library_key is None else library_names(adata, library_key)
    k = len(domain.categories)
    observed, expected = count_contacts(graph, np.asarray(domain.codes), k, pd.factorize(slices)[0])
    adata = adata.copy() if copy else adata
    names = np.asarray(domain.categories, dtype=object)
    adata.uns[key_added] = pd.DataFrame(
        {
            "domain": np.repeat(names, k),
            "neighbor": np.tile(names, k),
            "observed": observed.ravel(),
            "expected": expected.ravel(),
            "ratio": np.divide(observed, expected, out=np.full((k, k), np.nan), where=expected > 0).ravel(),
        },
        index=pd.RangeIndex(k * k).astype(str),
    )
    return adata if copy else None


def subdomains(
    adata: AnnData,
    *,
    domain: str,
    n_domains: int | str,
    key: str = DOMAIN,
    random_state: int = 0,
    key_added: str = SUBDOMAIN,
    copy: bool = False,
    **options: Any,
) -> AnnData | None:
    """Split one domain: cluster the embedding of its observations alone.

    Parameters
    ----------
    adata
        Result of :func:`domains`.
    domain
        Name of the domain.
    n_domains
        Into how many, or ``"auto"``.
    key, key_added
        Columns of ``obs`` with the domains, and to write to.
    random_state, copy
        As in :func:`domains`.
    options
        Hyperparameters of the clustering to change, by their names in :class:`stmfg.Config`.

    Returns
    -------
    ``None``, or the copy. Written:

    ``obs["stmfg_subdomain"]``
        The domains, with ``"3"`` split into ``"3.1"`` (largest), ``"3.2"``, ...
    ``obs["stmfg_subdomain_confidence"]``
        As of :func:`domains`, float32; NaN outside the domain.
    ``uns["stmfg_subdomain_colors"]``
        Colours, unless there were enough of them.
    """
    known = _complete(adata, key)
    inside = np.asarray(known == str(domain))
    if not inside.any():
        raise InputError(f"obs[{key!r}] has no domain {str(domain)!r}; name one of {', '.join(known.categories)}")
    adata = adata.copy() if copy else adata
    n_domains = checks.n_domains(n_domains, int(inside.sum()))
    plugins, options = Plugins.split(options)
    config = trained_config(adata, None, None, options).replace(finest_level=0)
    part = read_embedding(adata).subset(inside)
    result = find_domains(part, n_domains, config, checks.random_state(random_state), plugins.clusterer)
    names = known.astype(object)
    names[inside] = [f"{domain}.{label}" for label in np.asarray(result.labels)]
    split = [f"{domain}.{i}" for i in range(1, result.n_domains + 1)]
    order = [new for name in known.categories for new in (split if name == str(domain) else [name])]
    adata.obs[key_added] = pd.Categorical(names, categories=order)
    confidence = np.full(adata.n_obs, np.nan, dtype=np.float32)
    confidence[inside] = result.confidence
    adata.obs[f"{key_added}_confidence"] = confidence
    write_colours(adata, key_added)
    return adata if copy else None


def pseudobulk(
    adata: AnnData, *, key: str = DOMAIN, sample_key: str | None = None, layer: str | None = None
) -> AnnData:
    """Add up the raw counts of each domain, and of each sample, for tests that take bulk counts, as edgeR and DESeq2.

    Spots of one tissue are no replicates of each other: it is the samples that a test between conditions counts.

    Parameters
    ----------
    adata
        Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``.
    key, sample_key
        Columns of ``obs`` with the domains, and the samples; all are one sample when not given.
    layer
        Layer with the raw counts.

    Returns
    -------
    Annotated data with a row for each domain of each sample that has it, named ``sample_domain``:

    ``X``
        Sums of counts, int64 CSR (rows, n_vars).
    ``obs``
        The domain and the sample, under the names of their columns; ``"n_spots"`` that were added up; and other columns
        that have one value in each sample, such as donor or condition.
    ``var``
        That of ``adata``.
    """
    groups = pd.DataFrame({key: _complete(adata, key)}, index=adata.obs_names)
    if sample_key is not None:
        groups.insert(0, sample_key, library_names(adata, sample_key))
    number = groups.groupby(list(groups.columns), observed=True).ngroup().to_numpy(np.int64)
    k = int(number.max()) + 1
    obs = groups.assign(n_spots=np.bincount(number, minlength=k)[number])
    if sample_key is not None:
        others = adata.obs.drop(columns=list(obs.columns), errors="ignore")
        of_samples = others.groupby(groups[sample_key].to_numpy(), observed=True).nunique(dropna=False).max() == 1
        obs = obs.join(others.loc[:, of_samples[others.columns].to_numpy()])
    first = np.unique(number, return_index=True)[1]
    obs = obs.iloc[first].copy()
    obs.index = pd.Index(["_".join(map(str, row)) for row in groups.iloc[first].to_numpy()])
    return AnnData(_sums(checks.counts(adata, layer), number, k), obs=obs, var=adata.var.copy())


def _sums(counts: sparse.csr_matrix | OnDisk, number: NDArray[np.integer[Any]], k: int) -> sparse.csr_matrix:
    """Add up the rows of every group, int64 (k, n_vars), in one pass over the counts."""
    total = sparse.csr_array((k, counts.shape[1]), dtype=np.float64)
    for rows, block in row_blocks(counts):
        n = block.shape[0]
        member = sparse.csr_array((np.ones(n), (number[rows], np.arange(n))), shape=(k, n))
        total = total + member @ block
    total.data = np.rint(total.data)
    return sparse.csr_matrix(total).astype(np.int64)


def _complete(adata: AnnData, key: str) -> pd.Categorical[Any]:
    """Return the labels of all observations, refusing a column that leaves some without."""
    domain = labels(adata, key)
    missing = int((domain.codes < 0).sum())
    if missing:
        raise InputError(
            f"obs[{key!r}] has no label for {missing} of {adata.n_obs} spots; "
            f"leave them out first: adata[adata.obs[{key!r}].notna()].copy()"
        )
    return domain
