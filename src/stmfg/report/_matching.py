"""Domains of samples that were run apart, in common letters and colours, as far as they are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset
from scipy import sparse

from stmfg._core.palette import MISSING, palette
from stmfg._keys import COUNTS
from stmfg.errors import InputError
from stmfg.tl._match import MIN_CORRELATION, match_domains

_SPOTS: Final = 200  # spots of a domain whose mean tells what it expresses


@dataclass(frozen=True)
class Matching:
    """Letter and colour of every domain, by sample and name."""

    table: pd.DataFrame  # of match_domains, with letters as groups; of domains with no counterpart, none
    colours: Mapping[str, str]  # of the letters
    sentence: str  # what was matched, or why nothing was
    letters: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def colour(self, sample: str, domain: str) -> str | None:
        """Return the colour of a domain: grey where it has no counterpart, None where samples were not matched."""
        if not self.colours:
            return None
        return self.colours.get(self.letters.get((sample, domain), ""), MISSING)


def match(profiles: Mapping[str, pd.DataFrame]) -> Matching:
    """Match the domains of samples by :func:`read_profile`; the letters follow the number of samples that have one."""
    apart = "Domains are numbered in each sample from the largest: domain 3 of one is not domain 3 of another."
    try:
        table = match_domains(profiles)
    except InputError as error:
        return Matching(pd.DataFrame(columns=["sample", "domain", "group", "correlation"]), {}, f"{apart} ({error}.)")
    several = table.groupby("group")["sample"].nunique()
    order = several[several > 1].sort_values(ascending=False, kind="stable").index
    letters = {group: _letter(i) for i, group in enumerate(order)}
    table["group"] = table["group"].map(letters).fillna("")
    n_matched = int((table["group"] != "").sum())
    if not letters:
        return Matching(table, {}, f"{apart} They are too unlike to be matched by what they express.")
    sentence = (
        f"The letters and colours are common to all samples: {n_matched} of {len(table)} domains have a counterpart in "
        f"another sample, by what they express (correlation of at least {MIN_CORRELATION})"
        f"{'; the others are grey' if n_matched < len(table) else ''}. "
        "The numbers are those of the sample's own report."
    )
    texts = table[["sample", "domain", "group"]].astype(str).to_numpy().tolist()
    by_domain = {(sample, domain): letter for sample, domain, letter in texts if letter}
    return Matching(table, dict(zip(letters.values(), palette(len(letters)), strict=True)), sentence, by_domain)


def _letter(i: int) -> str:
    return ("" if i < 26 else _letter(i // 26 - 1)) + chr(ord("A") + i % 26)


def read_profile(file: h5py.File, domains: pd.Categorical[Any], options: Mapping[str, Any]) -> pd.DataFrame | None:
    """Return the mean log counts at equal depth of some spots of each domain, domains by genes; None without counts."""
    layer = options.get("layer")
    place = f"layers/{layer}" if layer else f"layers/{COUNTS}" if f"layers/{COUNTS}" in file else "X"
    if options.get("use_rep") is not None or place not in file:
        return None
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(domains.codes == i) for i in range(len(domains.categories))]
    chosen = np.sort(np.concatenate([rng.permutation(rows)[:_SPOTS] for rows in members]))
    element = file[place]
    rows = element if isinstance(element, h5py.Dataset) else sparse_dataset(element)
    counts = sparse.csr_array(rows[chosen], dtype=np.float64)
    depth = np.maximum(counts.sum(axis=1), 1.0)
    counts = (sparse.diags_array(np.median(depth) / depth) @ counts).log1p()
    codes = domains.codes[chosen]
    member = sparse.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    means = (member @ counts).toarray() / np.maximum(member.sum(axis=1), 1.0)[:, None]
    names = np.asarray(read_elem(file["var"][file["var"].attrs["_index"]])).astype(str)
    table = pd.DataFrame(means, index=pd.Index(domains.categories), columns=names)
    return table.loc[:, ~table.columns.duplicated()]
