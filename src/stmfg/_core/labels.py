"""Labels of a result and the colours that go with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stmfg._core.palette import palette
from stmfg._keys import COLORS, DOMAIN
from stmfg.errors import InputError, require

if TYPE_CHECKING:
    from anndata import AnnData


def labels(adata: AnnData, key: str = DOMAIN) -> pd.Categorical[Any]:
    """Return ``obs[key]`` as categories of text, without those that no spot has.

    Categories keep their order; other labels are put in the natural one, "2" before "10".
    """
    fix = "run stmfg.tl.domains(adata) first" if key == DOMAIN else "name a column of labels"
    column = require(adata, "obs", key, fix)
    if pd.api.types.is_float_dtype(column.dtype):
        raise InputError(f"obs[{key!r}] holds numbers ({column.dtype}), expected labels; use a column of categories")
    if isinstance(column.dtype, pd.CategoricalDtype):
        kept = column.cat.remove_unused_categories().cat
        return pd.Categorical.from_codes(np.asarray(kept.codes), categories=pd.Index([str(c) for c in kept.categories]))
    text = column.astype(object).where(column.isna(), column.astype(str))
    names = [str(c) for c in text.dropna().unique()]
    return pd.Categorical(text, categories=sorted(names, key=lambda c: (not c.isdecimal(), len(c) * c.isdecimal(), c)))


def colours(adata: AnnData, key: str = DOMAIN) -> dict[str, str]:
    """Return the colour of every name of :func:`labels`: those scanpy keeps in ``uns``, otherwise the palette.

    Numbered domains take the colour of their number, so that a subset looks like the whole.
    """
    names = list(labels(adata, key).categories)
    stored, column = adata.uns.get(f"{key}{COLORS}"), adata.obs[key]
    if stored is None and names and all(name.isdecimal() and len(name) < 4 for name in names):
        numbers = [int(name) for name in names]
        first = min(1, *numbers)
        shades = palette(max(numbers) - first + 1)
        return {name: shades[number - first] for name, number in zip(names, numbers, strict=True)}
    # The stored colours belong to all categories, also to those no spot has any more.
    every = [str(c) for c in column.cat.categories] if isinstance(column.dtype, pd.CategoricalDtype) else names
    by_name = dict(zip(every, _plain_colours(stored, len(every)) or palette(len(every)), strict=True))
    return {name: by_name[name] for name in names}


def _plain_colours(stored: object, k: int) -> list[str] | None:
    """Return the first k stored colours, or None unless all are ``#rrggbb``.

    They may come from a stranger's file and end up in a style sheet: nothing but a hexadecimal colour is believed.
    """
    shades = [str(c) for c in stored][:k] if isinstance(stored, Iterable) else []
    plain = all(re.fullmatch(r"#[0-9a-fA-F]{6}([0-9a-fA-F]{2})?", c) for c in shades)
    return [c[:7].lower() for c in shades] if plain and len(shades) == k else None
