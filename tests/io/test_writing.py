"""What has no form in a file is known before training: converted, or refused by name; what is written is read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from stmfg.errors import InputError
from stmfg.io.writing import read_back
from stmfg.workflow import run, run_apply

LETTERS = np.array(list("abc"))[np.arange(300) % 3]


OBS: dict[str, tuple[Any, list[Any]]] = {
    "strings": (pd.array([None, *LETTERS[1:]], dtype="string"), [None, *LETTERS[1:]]),
    "unique strings": (pd.array([f"n{i}" for i in range(300)], dtype="string"), [f"n{i}" for i in range(300)]),
    "integers": (pd.array([None, *range(299)], dtype="Int64"), [None, *range(299)]),
    "booleans": (pd.array([None, *[True] * 299], dtype="boolean"), [None, *[True] * 299]),
    "intervals": (pd.cut(np.arange(300.0), 3), [str(each) for each in pd.cut(np.arange(300.0), 3)]),
    "mixed types": ([1, "two", 3.0] * 100, ["1", "two", "3.0"] * 100),
    "dates": (pd.Timestamp("2020-02-03 04:05"), ["2020-02-03 04:05:00"] * 300),
}
"""Columns, and what is read of them."""
UNS: dict[Any, tuple[Any, Any]] = {
    "columns on two levels": (pd.DataFrame([[1, 2]], columns=[["a", "b"], [0, 1]]), [["1", "2"]]),
    "paths and large numbers": ({"p": Path("/a"), "n": 2**70}, {"p": "/a", "n": str(2**70)}),
    "lists in lists": ([[1], [2, 3]], ["[1]", "[2, 3]"]),
    "sparse triples": (sparse.coo_matrix(np.eye(2)), [[1, 0], [0, 1]]),
    "integer keys": ({1: {2: "x"}}, {"1": {"2": "x"}}),
    5: (1.5, 1.5),
    "tuples and sets": ({"t": (1, 2), "s": {"x", "y"}}, {"t": [1, 2], "s": ["x", "y"]}),
    "mixed arrays": (np.array(["a", 1], dtype=object), ["a", "1"]),
    "mixed tables": (pd.DataFrame({"a": [1, "x"]}), [["1"], ["x"]]),
}


def plain(value: Any) -> Any:
    """Return what was read in plain types."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, pd.DataFrame):
        value = value.to_numpy().astype(str)
    value = value.toarray() if sparse.issparse(value) else value
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.filterwarnings("ignore:.*will be:FutureWarning")
def test_what_people_have_in_memory_is_written(section: AnnData, tmp_path: Path) -> None:
    run(section.copy(), tmp_path / "model", n_domains=3, epochs=2, n_votes=1)
    for name, (values, _) in OBS.items():
        section.obs[name] = values
    section.uns |= {key: value for key, (value, _) in UNS.items()}
    section.raw = section
    section.raw.var["_index"] = section.var_names
    section.obs.index = pd.Index(pd.array(section.obs_names, dtype="string"), name="ground_truth")  # as a column
    section.var.index = pd.Index(pd.array(section.var_names, dtype="string"), name=0)
    other = section.copy()
    run(section, tmp_path / "run", n_domains=3, epochs=2, n_votes=1)
    run_apply(tmp_path / "model", other, tmp_path / "applied")
    for name in ("run", "applied"):
        result = ad.read_h5ad(tmp_path / name / "result.h5ad")
        assert len(result.obs["stmfg_domain"]) == 300
        assert (result.obs_names[0], result.var_names[0]) == ("spot1", "Gene0001")
        assert list(result.raw.var["index_"]) == list(result.var_names)
        assert "ground_truth" in result.obs
        for key, (_, expected) in OBS.items():
            assert [None if pd.isna(each) else each for each in result.obs[key].astype(object)] == expected, key
        assert {key: plain(result.uns[str(key)]) for key in UNS} == {
            key: expected for key, (_, expected) in UNS.items()
        }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.uns.__setitem__("mine", {"deep": object()}), "uns['mine']['deep'] cannot be written"),
        (lambda a: a.layers.__setitem__("a/b", a.X), "rename it: adata.layers['a_b'] = adata.layers.pop('a/b')"),
        (lambda a: a.layers.__setitem__(3, a.X), "adata.layers['3'] = adata.layers.pop(3)"),
        (lambda a: a.layers.__setitem__("c", a.X.toarray().astype(object)), "layers['c'] cannot be written"),
        (lambda a: setattr(a, "obs", pd.concat([a.obs, a.obs], axis=1)), "has the column 'ground_truth' twice"),
        (lambda a: a.obsm.__setitem__("a/b", a.obsm["spatial"]), "obsm has the name 'a/b', which in a file"),
    ],
)
def test_what_has_no_form_in_a_file_is_named_before_training(
    change: Callable[[AnnData], Any], said: str, section: AnnData, tmp_path: Path, refused: Callable[..., str]
) -> None:
    change(section)
    assert said in refused(run, section, tmp_path / "out", n_domains=3, epochs=10**9)
    assert not (tmp_path / "out").exists()


def test_what_was_written_is_read_back(section: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    section.obs["CD4/CD8"] = "x"  # as a column, it can be
    section.write_h5ad(tmp_path / "a.h5ad")
    read_back(tmp_path / "a.h5ad", section)
    section.layers["more"] = section.X
    assert "layers['more'] is missing" in refused(read_back, tmp_path / "a.h5ad", section)
    section.layers["a/b"] = section.layers.pop("more")
    section.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(InputError, match="cannot be read back"):
        read_back(tmp_path / "b.h5ad", section)
