"""Several inputs become one: named, on shared genes, with nothing lost without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData

import stmfg
from stmfg.datasets import simulate_slices
from stmfg.io import join
from stmfg.io.slices import slice_names
from stmfg.workflow import read_record, run


@pytest.fixture
def two(section: AnnData) -> dict[str, AnnData]:
    return {"left": section[:140].copy(), "right": section[140:].copy()}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/one.h5ad", "b/two.h5ad"], ["one", "two"]),
        (["a/x.h5ad", "b/x.h5ad", "b/y.h5ad"], ["a_x", "b_x", "y"]),
        (["mouse1/outs", "mouse2/outs"], ["mouse1", "mouse2"]),
        (["one/s.zarr", "one/s.h5ad"], ["one_s_1", "one_s_2"]),
    ],
)
def test_names_come_from_files_and_are_unique(paths: list[str], names: list[str], tmp_path: Path) -> None:
    for path in map(tmp_path.joinpath, paths):
        (path.parent if path.suffix == ".h5ad" else path).mkdir(parents=True, exist_ok=True)
    assert slice_names([tmp_path / path for path in paths]) == names


def test_a_path_given_twice_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "given twice" in refused(slice_names, [tmp_path / "a.h5ad", tmp_path / "b" / ".." / "a.h5ad"])


def test_read_slices(two: dict[str, AnnData], tmp_path: Path) -> None:
    for name, part in two.items():
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    joined = stmfg.read_slices([tmp_path / "right.h5ad", tmp_path / "left.h5ad"])
    assert list(joined.obs["stmfg_slice"].cat.categories) == ["right", "left"]
    assert joined.obs_names[0] == f"{two['right'].obs_names[0]}_right"
    np.testing.assert_array_equal(joined.X[:160].toarray(), two["right"].X.toarray())
    np.testing.assert_array_equal(joined.obsm["spatial"][160:], two["left"].obsm["spatial"])


def test_only_shared_genes_are_kept_and_it_is_said(two: dict[str, AnnData], caplog: pytest.LogCaptureFixture) -> None:
    two["left"] = two["left"][:, 10:].copy()
    two["right"] = two["right"][:, ::-1].copy()
    joined = join(two)
    assert "share 70 genes" in caplog.text
    assert "left has 70 in all, right 80" in caplog.text
    assert list(joined.var_names) == list(two["left"].var_names)
    np.testing.assert_array_equal(joined[140:].X.toarray(), two["right"][:, joined.var_names].X.toarray())


def test_too_few_shared_genes_are_refused_unless_an_embedding_is_used(
    two: dict[str, AnnData], refused: Callable[..., str]
) -> None:
    two["left"].var_names = [f"other{i}" for i in range(80)]
    for part in two.values():
        part.obsm["X_pca"] = np.asarray(part.X[:, :5].toarray())
    assert "share 0 genes" in refused(join, two)
    assert join(two, use_rep="X_pca").obsm["X_pca"].shape == (300, 5)


def test_columns_must_be_the_same(two: dict[str, AnnData], refused: Callable[..., str]) -> None:
    two["left"].obsm["spatial"] = np.c_[two["left"].obsm["spatial"], np.zeros(140)]
    assert "(n, 3) in slice 'left'" in refused(join, two)
    del two["right"].obsm["spatial"]
    assert "slice 'right' has no obsm['spatial']" in refused(join, two)


def test_counts_in_a_layer_of_some_are_found(two: dict[str, AnnData]) -> None:
    raw = two["left"].X.copy()
    two["left"].layers["counts"] = raw
    two["left"].X = np.log1p(raw)
    joined = join(two)
    np.testing.assert_array_equal(joined.layers["counts"][:140].toarray(), raw.toarray())
    np.testing.assert_array_equal(joined.layers["counts"][140:].toarray(), two["right"].X.toarray())


def test_platforms_and_images_are_kept_by_slice(two: dict[str, AnnData], caplog: pytest.LogCaptureFixture) -> None:
    for (name, part), platform in zip(two.items(), ("visium", "xenium"), strict=True):
        part.uns["spatial_platform"] = {"platform": platform}
        part.uns["spatial"] = {f"library of {name}": {"scalefactors": {"spot_diameter_fullres": 5.0}}}
    joined = join(two)
    assert "several platforms (visium, xenium)" in caplog.text
    assert joined.uns["spatial_platform"]["right"]["platform"] == "xenium"
    assert list(joined.uns["spatial"]) == ["left", "right"]


def test_slices_inside_an_input_are_slices_of_their_own(two: dict[str, AnnData]) -> None:
    two["left"].obs["stmfg_slice"] = ["A"] * 100 + ["B"] * 40
    two["left"].uns["spatial"] = {name: {"scalefactors": {"spot_diameter_fullres": 5.0}} for name in "AB"}
    joined = join(two)
    assert joined.obs["stmfg_slice"].value_counts().to_dict() == {"right": 160, "left_A": 100, "left_B": 40}
    assert joined.obs_names[0].endswith("_left_A")
    assert list(joined.uns["spatial"]) == ["left_A", "left_B"]


def test_raw_counts_of_all_slices_are_kept(two: dict[str, AnnData]) -> None:
    for part in two.values():
        part.raw = part
        part.X = part.X.log1p()
    joined = join(two)
    np.testing.assert_array_equal(joined.layers["raw"][:140].toarray(), two["left"].raw.X.toarray())
    np.testing.assert_array_equal(joined.layers["raw"][140:].toarray(), two["right"].raw.X.toarray())


def test_the_slices_are_not_changed(two: dict[str, AnnData]) -> None:
    before = {name: part.copy() for name, part in two.items()}
    join(two)
    for name, part in two.items():
        assert list(part.obs.columns) == list(before[name].obs.columns)
        assert isinstance(part, ad.AnnData)
        assert list(part.layers) == []


def sheet(folder: Path, rows: list[str], header: str = "sample,path,donor,condition") -> Path:
    """Write four slices, and a sheet of these rows."""
    joined = simulate_slices(4, 120, 60, n_domains=3, difficulty=0.5)
    for i, name in enumerate(joined.obs["slice"].cat.categories):
        joined[joined.obs["slice"] == name].copy().write_h5ad(folder / f"{i}.h5ad")
    path = folder / "sheet.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_sheet_of_a_batch_is_that_of_one_run(tmp_path: Path) -> None:
    """Options that all samples have are those of the run, in others the command decides; other columns are kept."""
    rows = ["a,0.h5ad,3,1,61", "b,1.h5ad,3,2,"]
    record = run(
        sheet(tmp_path, rows, "sample,path,n_domains,seed,age"), tmp_path / "out", random_state=5, epochs=1, n_votes=1
    )
    assert (record["options"]["n_domains"], record["options"]["random_state"]) == (3, 5)
    assert read_record(tmp_path / "out")["library_key"] == "stmfg_slice"
    result = ad.read_h5ad(tmp_path / "out" / "result.h5ad")
    assert set(result.obs.loc[result.obs["stmfg_slice"] == "a", "age"]) == {"61"}
    assert result.obs["age"].isna().sum() == 120


def test_conditions_of_one_sample_each_are_not_compared(tmp_path: Path) -> None:
    record = run(
        sheet(tmp_path, ["a,0.h5ad,,case", "b,1.h5ad,,control"]), tmp_path / "out", n_domains=3, epochs=2, n_votes=1
    )
    assert any("Conditions are not compared" in line for line in record["warnings"])
    assert not (tmp_path / "out" / "abundance.csv").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a,0.h5ad,umis", "b,1.h5ad,"], "'a' has its own layer"),
        (["a,0.h5ad,umis", "b,1.h5ad,umis"], "2 of 2 samples cannot be run"),
        (["a,0.h5ad,"], "has one sample"),
        (["a,0.h5ad,", "b,gone.h5ad,"], "gone.h5ad"),
    ],
)
def test_a_sheet_that_cannot_be_one_run(
    rows: list[str], said: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = sheet(tmp_path, rows, "sample,path,layer")
    assert said in refused(run, path, tmp_path / "out", n_domains=3)
    assert not (tmp_path / "out").exists()
