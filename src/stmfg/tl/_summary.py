"""What a result says, in a few lines: how many domains and what else could be, how large, what is unsure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from stmfg._core.labels import labels
from stmfg._keys import CONFIDENCE, DOMAIN, UNS

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

UNCERTAIN: Final = 0.5
"""Below this confidence a spot is called uncertain."""


@dataclass(frozen=True)
class Summary:
    """A result in numbers, and as text where it is shown.

    Attributes
    ----------
    heading
        How many domains of how many spots, and of which seed and version.
    table
        One row for each domain, (n_domains, 2 or 4): ``spots`` and ``share``, and where the confidence is known its
        ``median`` and the share that is ``uncertain``, with a confidence below 0.5.
    sentences
        What is known of other numbers of domains, and what is unsure.
    """

    heading: str
    table: pd.DataFrame
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        shares = dict.fromkeys(("share", "uncertain"), "{:.1%}".format)
        formats = shares | {"spots": "{:,}".format, "median confidence": "{:.2f}".format}
        table = self.table.to_string(formatters={k: v for k, v in formats.items() if k in self.table})
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
    domains = labels(adata, key)
    spots = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    table = pd.DataFrame({"spots": spots, "share": spots / max(spots.sum(), 1)}, index=pd.Index(domains.categories))
    table.index.name = "domain"
    sentences = list(_describe_number(adata)) if key == DOMAIN else []
    confidence = CONFIDENCE if key == DOMAIN else f"{key}_confidence"
    if confidence in adata.obs:
        certain = pd.Series(np.asarray(adata.obs[confidence], dtype=float)).groupby(np.asarray(domains.codes))
        table["median confidence"] = certain.median().reindex(range(len(table))).to_numpy()
        table["uncertain"] = certain.agg(lambda c: (c < UNCERTAIN).mean()).reindex(range(len(table))).to_numpy()
        sentences.append(_describe_doubt(np.asarray(adata.obs[confidence]), table))
    record = adata.uns.get(UNS, {})
    made_by = [f"stMFG {record['version']}"] if "version" in record else []
    made_by += [f"seed {record['random_state']}"] if "random_state" in record else []
    heading = f"{len(table)} domains of {int(spots.sum()):,} spots"
    return Summary(f"{heading} ({', '.join(made_by)})" if made_by else heading, table, tuple(sentences))


def _describe_number(adata: AnnData) -> list[str]:
    """Return what is known of other numbers of domains."""
    choice = adata.uns.get(UNS, {}).get("n_domains")
    if not isinstance(choice, Mapping) or "chosen" not in choice:
        return []
    if choice.get("sentence"):
        return [str(choice["sentence"])]
    rivals = [str(int(n)) for n in np.atleast_1d(choice.get("rivals", []))]
    also = f"; nearly as good: {', '.join(rivals)}" if rivals else "; no other number comes near"
    return [f"The number of domains, {int(choice['chosen'])}, was chosen{also}."]


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
