"""What a result says, in a few lines: how many domains and what else could be, how large, what is unsure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from stmfg._core.labels import labels
from stmfg._keys import CONFIDENCE, DOMAIN, MARKERS, UNS
from stmfg.tl._marker_tests import summarise

UNCERTAIN: Final = 0.5
"""Below this confidence a spot is called uncertain."""
UNSTABLE: Final = 0.6
"""A domain that overlaps less with what half of the molecules shows is called unstable."""


@dataclass(frozen=True)
class Summary:
    """A result in numbers, and as text where it is shown.

    Attributes
    ----------
    heading
        How many domains of how many spots, and of which seed and version.
    table
        One row for each domain: ``spots`` and ``share``; where the confidence is known its median and the share that is
        ``uncertain``, with a confidence below 0.5; and ``found again``, how well the domain overlaps (Jaccard index)
        with what half of the molecules shows of it.
    sentences
        What is unsure, first of all; what is known of other numbers of domains; domains without a gene of their own.
    """

    heading: str
    table: pd.DataFrame
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        formats = dict.fromkeys(("share", "uncertain"), "{:.1%}".format) | {"spots": "{:,}".format}
        formats |= dict.fromkeys(("median confidence", "found again"), "{:.2f}".format)
        table = self.table.to_string(formatters=formats)
        return "\n".join([self.heading, *self.sentences, table])

    __repr__ = __str__


def summary(adata: AnnData, *, key: str = DOMAIN) -> Summary:
    """Say in a few lines what a result holds.

    Parameters
    ----------
    adata
        Annotated data as :func:`stmfg.tl.domains` leaves it.
    key
        Column of ``obs`` with the domains.

    Returns
    -------
    Shown as text in a notebook, or by ``print``.

    Raises
    ------
    InputError
        If there are no domains.
    """
    table = tabulate_domains(adata, key)
    sentences = []
    if "found again" in table:
        sentences += describe_unstable(table["found again"], adata.uns[UNS].get("use_rep"))
    if "uncertain" in table:
        confidence = CONFIDENCE if key == DOMAIN else f"{key}_confidence"
        sentences.append(_describe_doubt(np.asarray(adata.obs[confidence]), table))
    if key == DOMAIN:
        sentences += _describe_number(adata)
        if MARKERS in adata.uns:
            sentences += describe_markers(summarise(adata.uns[MARKERS], list(table.index)))
    record = adata.uns.get(UNS, {})
    made_by = [f"stMFG {record['version']}"] if "version" in record else []
    made_by += [f"seed {record['random_state']}"] if "random_state" in record else []
    heading = f"{len(table)} domains of {int(table['spots'].sum()):,} spots"
    return Summary(f"{heading} ({', '.join(made_by)})" if made_by else heading, table, tuple(sentences))


def tabulate_domains(adata: AnnData, key: str = DOMAIN) -> pd.DataFrame:
    """Return the table of a :class:`Summary`."""
    domains = labels(adata, key)
    spots = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    table = pd.DataFrame({"spots": spots, "share": spots / max(spots.sum(), 1)}, index=pd.Index(domains.categories))
    table.index.name = "domain"
    again = adata.uns.get(UNS, {}).get("halves", {}).get(key)
    if again is not None:
        overlap = pd.Series(np.asarray(again["found_again"]), index=[str(name) for name in again["domains"]])
        table["found again"] = overlap.groupby(level=0).min().reindex(table.index)
    confidence = CONFIDENCE if key == DOMAIN else f"{key}_confidence"
    if confidence in adata.obs:
        certain = pd.Series(np.asarray(adata.obs[confidence], dtype=float)).groupby(np.asarray(domains.codes))
        table["median confidence"] = certain.median().reindex(range(len(table))).to_numpy()
        table["uncertain"] = certain.agg(lambda c: (c < UNCERTAIN).mean()).reindex(range(len(table))).to_numpy()
    return table


def _describe_number(adata: AnnData) -> list[str]:
    """Return what is known of other numbers of domains."""
    choice = adata.uns.get(UNS, {}).get("n_domains")
    if not isinstance(choice, Mapping) or "chosen" not in choice:
        return []
    if choice.get("sentence"):
        return [str(choice["sentence"])]
    return [f"The number of domains, {int(choice['chosen'])}, was given, not chosen by the data."]


def describe_redraws(use_rep: str | None) -> str:
    """Say what the domains were found again in."""
    return "half of the molecules" if use_rep is None else f"noisier copies of {use_rep}"


def describe_unstable(overlap: pd.Series[float], use_rep: str | None) -> list[str]:
    """Name the domains that are not found again, by their overlap (Jaccard index) with what is found there."""
    unstable = overlap[overlap < UNSTABLE].sort_values(kind="stable")
    if unstable.empty:
        return []
    names, values = [str(name) for name in unstable.index], _enumerate([f"{value:.0%}" for value in unstable])
    subject = f"Domain {names[0]} is" if len(names) == 1 else f"Domains {_enumerate(names)} are"
    return [f"{subject} unstable: found again in {describe_redraws(use_rep)} with an overlap of {values}."]


def describe_markers(summary: pd.DataFrame) -> list[str]:
    """Return sentences on the domains without a gene of their own, from :func:`summarise`."""
    sentences, without = [], []
    for name, row in summary[summary["n_specific"] == 0].iterrows():
        if row["shares_with"]:
            genes, other = _enumerate(row["genes"]), row["shares_with"]
            sentences.append(f"No gene is specific to domain {name}: it shares {genes} with domain {other}.")
        else:
            without.append(str(name))
    if without:
        domains, there = ("domains", "them") if len(without) > 1 else ("domain", "it")
        sentences.append(
            f"No gene is specific to {domains} {_enumerate(without)}, "
            f"and none is much higher in {there} than in the rest of the tissue."
        )
    return sentences


def _enumerate(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _describe_doubt(certain: NDArray[np.float32], table: pd.DataFrame) -> str:
    """Say how many spots are uncertain, and in which domain most of its spots are."""
    share = float((certain < UNCERTAIN).mean())
    if share == 0:
        return f"No spot has a confidence below {UNCERTAIN}."
    worst = table["uncertain"].idxmax()
    return (
        f"{share:.1%} of the spots are uncertain, with a confidence below {UNCERTAIN}; "
        f"domain {worst} the most ({table['uncertain'].max():.0%} of it)."
    )
