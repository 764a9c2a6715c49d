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

import stmfg
from stmfg.errors import InputError
from stmfg.io.writing import read_back
from stmfg.workflow import run, run_apply

LETTERS = np.array(list("abc"))[np.arange(300) % 3]


def column(values: Any) -> Callable[[AnnData], Any]:
    return lambda adata: adata.obs.__setitem__("mine", values)


def nullable_index(adata: AnnData) -> None:
    adata.obs.index = pd.Index(pd.array(adata.obs_names, dtype="string"))
    adata.var.index = pd.Index(pd.array(adata.var_names, dtype="string"))


def reserved_name(adata: AnnData) -> None:
    adata.raw = adata
    adata.raw.var["_index"] = adata.var_names


def numbers(values: Any) -> Any:
    return [None if pd.isna(each) else float(each) for each in values]


WRITABLE: dict[str, tuple[Callable[[AnnData], Any], Callable[[AnnData], bool]]] = {
    "nullable strings": (
        column(pd.array([None, *LETTERS[1:]], dtype="string")),
        lambda a: list(a.obs["mine"].astype(object)[1:]) == list(LETTERS[1:]) and pd.isna(a.obs["mine"].iloc[0]),
    ),
    "unique nullable strings": (
        column(pd.array([f"n{i}" for i in range(300)], dtype="string")),
        lambda a: list(a.obs["mine"].astype(str)) == [f"n{i}" for i in range(300)],
    ),
    "nullable integers": (
        column(pd.array([None, *range(299)], dtype="Int64")),
        lambda a: numbers(a.obs["mine"]) == [None, *range(299)],
    ),
    "nullable booleans": (
        column(pd.array([None, *[True] * 299], dtype="boolean")),
        lambda a: numbers(a.obs["mine"]) == [None, *[1.0] * 299],
    ),
    "a name of the index that is that of a column": (
        lambda a: a.obs.rename_axis("ground_truth", inplace=True),
        lambda a: a.obs_names[0] == "spot1" and "ground_truth" in a.obs,
    ),
    "a number as name of the index": (lambda a: a.var.rename_axis(0, inplace=True), lambda a: a.n_vars == 80),
    "columns on two levels": (
        lambda a: a.uns.__setitem__("mine", pd.DataFrame([[1, 2]], columns=[["a", "b"], [0, 1]])),
        lambda a: a.uns["mine"].shape == (1, 2),
    ),
    "paths, large numbers, lists in lists": (
        lambda a: a.uns.__setitem__("mine", {"p": Path("/a"), "n": 2**70, "l": [[1], [2, 3]]}),
        lambda a: a.uns["mine"]["p"] == "/a" and a.uns["mine"]["n"] == str(2**70) and len(a.uns["mine"]["l"]) == 2,
    ),
    "sparse triples": (
        lambda a: a.uns.__setitem__("mine", sparse.coo_matrix(np.eye(3))),
        lambda a: a.uns["mine"].sum() == 3,
    ),
    "nullable strings as index": (nullable_index, lambda a: a.obs_names[0] == "spot1" and a.var_names[0] == "Gene0001"),
    "intervals": (
        column(pd.cut(np.arange(300.0), 3)),
        lambda a: (
            list(a.obs["mine"].cat.categories)[1] == "(99.667, 199.333]" and a.obs["mine"].value_counts().iloc[0] == 100
        ),
    ),
    "mixed types": (
        column([1, "two", 3.0] * 100),
        lambda a: list(a.obs["mine"].astype(str)[:3]) == ["1", "two", "3.0"],
    ),
    "dates": (column(pd.Timestamp("2020-02-03")), lambda a: str(a.obs["mine"].iloc[0]).startswith("2020-02-03")),
    "_index in raw.var": (reserved_name, lambda a: list(a.raw.var["index_"]) == list(a.var_names)),
    "integer keys": (lambda a: a.uns.__setitem__("mine", {1: {2: "x"}}), lambda a: a.uns["mine"]["1"]["2"] == "x"),
    "an integer key": (lambda a: a.uns.__setitem__(5, 1.5), lambda a: a.uns["5"] == 1.5),
    "tuples and sets": (
        lambda a: a.uns.__setitem__("mine", {"t": (1, 2), "s": {"x", "y"}}),
        lambda a: list(a.uns["mine"]["t"]) == [1, 2] and list(a.uns["mine"]["s"]) == ["x", "y"],
    ),
    "mixed arrays": (
        lambda a: a.uns.__setitem__("mine", np.array(["a", 1], dtype=object)),
        lambda a: list(a.uns["mine"]) == ["a", "1"],
    ),
    "mixed tables": (
        lambda a: a.uns.__setitem__("mine", pd.DataFrame({"a": [1, "x"]})),
        lambda a: list(a.uns["mine"]["a"].astype(str)) == ["1", "x"],
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    adata = stmfg.datasets.simulate(300, 80, n_domains=4, difficulty=0.3, random_state=1)
    run(adata, folder, n_domains=3, epochs=2, n_votes=1)
    return folder


@pytest.mark.filterwarnings("ignore:.*will be:FutureWarning")
@pytest.mark.parametrize("kind", WRITABLE)
def test_what_people_have_in_memory_is_written(kind: str, section: AnnData, model: Path, tmp_path: Path) -> None:
    change, is_kept = WRITABLE[kind]
    change(section)
    other = section.copy()
    run(section, tmp_path / "run", n_domains=3, epochs=2, n_votes=1)
    run_apply(model, other, tmp_path / "applied")
    for name in ("run", "applied"):
        result = ad.read_h5ad(tmp_path / name / "result.h5ad")
        assert is_kept(result)
        assert len(result.obs["stmfg_domain"]) == 300


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
