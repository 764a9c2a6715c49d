"""Checks on user input: what passes, and the one line said about what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from stmfg._core import checks
from stmfg.errors import InputError, MissingKeyError

COUNTS = np.random.default_rng(0).poisson(1.0, (6, 5)).astype(np.float32)
XY = np.column_stack([np.arange(6), np.arange(6) % 2]).astype(np.float64)


def make(X: Any = COUNTS, **elements: Any) -> AnnData:
    """Six spots named s0..s5 by five genes."""
    adata = AnnData(X, obs=pd.DataFrame(index=[f"s{i}" for i in range(6)]), **elements)
    adata.obsm["spatial"] = XY.copy()
    return adata


def message(call: Callable[..., Any], *arguments: Any, kind: type[Exception] = InputError) -> str:
    """Return the message of the error that a call raises, one line."""
    with pytest.raises(kind) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_observations() -> None:
    adata = make()
    adata.var_names = ["a", "a", "b", "c", "d"]  # which may repeat
    checks.observations(adata)
    assert "has 3 spots; at least 4" in message(checks.observations, adata[:3])
    adata.obs_names = ["x", "y", "y", "z", "y", "w"]
    said = message(checks.observations, adata)
    assert "2 of 6 spot names repeat an earlier one (first 'y')" in said
    assert said.endswith("adata.obs_names_make_unique()")


@pytest.mark.parametrize(
    "values",
    [
        XY,
        XY.astype(np.int32),
        XY.astype(np.float32),
        np.column_stack([XY, np.zeros(6)]),
        pd.DataFrame(XY, index=[f"s{i}" for i in range(6)], columns=["x", "y"]),
        pd.DataFrame(XY, index=[f"s{i}" for i in range(6)], columns=["x", "y"]).astype({"x": int}).astype(object),
    ],
)
def test_coordinates(values: Any) -> None:
    adata = make()
    adata.obsm["spatial"] = values
    xy = checks.coordinates(adata)
    assert xy.dtype == np.float64
    np.testing.assert_array_equal(xy, np.asarray(values, dtype=np.float64))
    xy[:] = 0  # a copy: the user's coordinates stay
    np.testing.assert_array_equal(np.asarray(adata.obsm["spatial"])[:, 0].astype(float), XY[:, 0])


def with_value(value: float) -> np.ndarray[Any, Any]:
    values = XY.copy()
    values[2:4, 1] = value
    return values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (XY[:, :1], "has shape (6, 1), expected (6, 2) or (6, 3)"),
        (np.ones((6, 4)), "has shape (6, 4)"),
        (np.ones((6, 2, 1)), "has shape (6, 2, 1)"),
        (with_value(np.nan), "NaN or infinite values for 2 of 6 spots (first 's2')"),
        (with_value(-np.inf), "NaN or infinite values for 2 of 6 spots (first 's2')"),
        (np.full((6, 2), 7.0), "puts all 6 spots at one point (7.0, 7.0)"),
        (np.full((6, 2), "left"), "has values of type <U4, expected numbers"),
        (XY.astype(complex), "has values of type complex128"),
        (XY > 0, "has values of type bool"),
        (np.array([["a", 1]] * 6, dtype=object), "has values of type object"),
        (sparse.csr_matrix(XY), "is a sparse matrix, expected a dense array"),
    ],
)
def test_coordinates_refused(values: Any, expected: str) -> None:
    adata = make()
    adata.obsm["spatial"] = values
    said = message(checks.coordinates, adata)
    assert said.startswith("obsm['spatial'] ")
    assert expected in said


def test_fix_for_missing_coordinates_works() -> None:
    adata = make()
    adata.obsm["spatial"] = with_value(np.nan)
    fix = message(checks.coordinates, adata).rsplit("drop them: ", 1)[1]
    kept = eval(fix, {"np": np, "adata": adata})  # noqa: S307
    assert list(kept.obs_names) == ["s0", "s1", "s4", "s5"]
    checks.coordinates(kept)


FORMATS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.uint16, np.int32, np.int64])
def test_counts_of_any_form(form: Callable[[Any], Any], dtype: type) -> None:
    adata = make(form(COUNTS.astype(dtype)))
    before = adata.X.copy()
    result = checks.counts(adata)
    assert sparse.isspmatrix_csr(result)
    assert result.dtype == np.float32
    assert result.has_canonical_format
    np.testing.assert_array_equal(result.toarray(), COUNTS)
    assert type(adata.X) is type(before)
    assert adata.X.dtype == dtype


def test_counts_of_odd_types() -> None:
    double = COUNTS.astype(np.float64)
    for X in (COUNTS.astype(np.float16), COUNTS > 0, double + 1e-7, double - 1e-9):
        counts = checks.counts(make(X))
        np.testing.assert_array_equal(counts.toarray(), np.rint(X.astype(float)))
        assert counts.nnz == np.count_nonzero(COUNTS)
    for form in (np.asarray, sparse.csr_matrix):
        np.testing.assert_array_equal(checks.counts(make(form(COUNTS))[1:5]).toarray(), COUNTS[1:5])
    # Counts computed back from a logarithm in single precision.
    back = np.expm1(np.log1p(COUNTS * 1000).astype(np.float32)).astype(np.float32)
    assert (back != np.rint(back)).any()
    np.testing.assert_allclose(checks.counts(make(back)).toarray(), COUNTS * 1000, rtol=1e-4)
    checks.counts(make(changed(1.0009)))


def test_unsorted_counts_with_duplicates_stay_as_they_are() -> None:
    data = np.array([1, 2, 3, 4], dtype=np.float32)
    indices, indptr = np.array([3, 1, 1, 0]), np.array([0, 3, 4, 4, 4, 4, 4])
    adata = make(sparse.csr_matrix((data.copy(), indices.copy(), indptr.copy()), shape=(6, 5)))
    result = checks.counts(adata)
    assert result.has_canonical_format
    np.testing.assert_array_equal(result.toarray()[:2], [[0, 5, 0, 1, 0], [4, 0, 0, 0, 0]])
    np.testing.assert_array_equal(adata.X.data, data)
    np.testing.assert_array_equal(adata.X.indices, indices)


def test_which_counts() -> None:
    adata = make(np.log1p(COUNTS), layers={"counts": COUNTS * 2, "raw": COUNTS * 3})
    np.testing.assert_array_equal(checks.counts(adata).toarray(), COUNTS * 2)
    np.testing.assert_array_equal(checks.counts(adata, "raw").toarray(), COUNTS * 3)
    said = message(checks.counts, adata, "umi", kind=MissingKeyError)
    assert said.startswith("layers['umi'] is missing (layers has: counts, raw)")
    adata.layers["counts"] = np.log1p(COUNTS)
    assert message(checks.counts, adata).startswith("layers['counts'] has ")


def changed(value: float) -> np.ndarray[Any, Any]:
    values = COUNTS.copy()
    values[1, 2] = value
    return values


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (changed(np.nan), "X has 1 NaN or infinite values (first nan)"),
        (changed(np.inf), "X has 1 NaN or infinite values (first inf)"),
        (changed(-2), "X has 1 negative values (first -2)"),
        (changed(1.5), "X has 1 non-integer values (first 1.5)"),
        (changed(0.001), "X has 1 non-integer values (first 0.001)"),
        (COUNTS / 3000 * 1e6, "non-integer values (first 333.333)"),  # counts per million are large, but not counts
        (np.zeros((6, 5)), "X is zero everywhere"),
    ],
)
def test_counts_refused(form: Callable[[Any], Any], X: Any, expected: str) -> None:
    said = message(checks.counts, make(form(X)))
    assert expected in said
    assert said.endswith("give raw counts in layers['counts'], or an embedding in obsm and its name with use_rep")


def test_no_counts_at_all() -> None:
    assert "X has values of type complex128" in message(checks.counts, make(COUNTS.astype(complex)))
    objects = make(layers={"counts": COUNTS.astype(object)})
    assert "layers['counts'] has values of type object" in message(checks.counts, objects)
    said = message(checks.counts, make(None, obsm={"X_pca": np.ones((6, 5)), "X_umap": np.ones((6, 4))}))
    assert said.startswith("X is empty")
    assert said.endswith("or use an embedding with use_rep='X_pca'")
    assert "the data has no genes" in message(checks.counts, make()[:, :0])


def test_backed_counts(tmp_path: Path) -> None:
    import anndata

    make().write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert "adata.to_memory()" in message(checks.counts, adata)
    adata.file.close()


def test_slices_that_are_not_named_for_all() -> None:
    adata = make()
    adata.obs["slice"] = pd.Categorical(["a", None] * 3)
    assert "obs['slice'] is missing for 3 of 6 spots" in message(checks.library_names, adata, "slice")


def test_representation() -> None:
    pca = np.random.default_rng(0).normal(size=(6, 3))
    adata = make(None, obsm={"X_pca": pca, "frame": pd.DataFrame(pca, index=[f"s{i}" for i in range(6)])})
    for key in ("X_pca", "frame"):
        result = checks.representation(adata, key)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, pca.astype(np.float32))
    said = message(checks.representation, adata, "X_umap", kind=MissingKeyError)
    assert "obsm['X_umap'] is missing (obsm has: X_pca, frame, spatial)" in said


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (with_value(np.nan), "NaN or infinite values for 2 of 6 spots (first 's2')"),
        (with_value(1e300), "NaN or infinite values for 2 of 6 spots"),  # not a number in float32
        (np.ones((6, 3)), "has the same values for all 6 spots"),
        (np.ones((6, 0)), "has shape (6, 0), expected (6, d)"),
        (np.ones((6, 2, 2)), "has shape (6, 2, 2)"),
        (np.full((6, 2), "left"), "expected numbers"),
        (sparse.csr_matrix(XY), "is a sparse matrix"),
    ],
)
def test_representation_refused(values: Any, expected: str) -> None:
    assert expected in message(checks.representation, make(obsm={"X_rep": values}), "X_rep")


def test_n_domains() -> None:
    assert checks.n_domains(2, 4) == 2
    assert type(checks.n_domains(np.int64(4), 4)) is int
    assert "n_domains is 1, expected at least 2" in message(checks.n_domains, 1, 10)
    assert "n_domains is -3" in message(checks.n_domains, -3, 10)
    assert "n_domains is 11 but there are fewer spots (10)" in message(checks.n_domains, 11, 10)
    assert checks.n_domains("auto") == "auto"
    for wrong in (7.0, "7", True, None, [7]):
        assert f"n_domains is {wrong!r}, expected an integer" in message(checks.n_domains, wrong, 10)


def test_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    checks.writable(tmp_path)
    checks.writable(str(tmp_path / "a" / "b"))
    assert list(tmp_path.iterdir()) == []


def test_not_writable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("keep me")
    for folder in (file, file / "below", file / "far" / "below"):
        assert f"output folder {folder}: {file} is not a folder" in message(checks.writable, folder)
    assert file.read_text() == "keep me"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    assert "link is not a folder" in message(checks.writable, link)
    assert "cannot be written (File name too long)" in message(checks.writable, tmp_path / ("x" * 300))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, a folder even root cannot write to")
def test_read_only_folder() -> None:
    for folder in ("/proc", "/proc/out", "/proc/a/b"):
        assert f"output folder {folder} cannot be written (" in message(checks.writable, folder)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/absolute", "", "a//b"])
def test_names_that_would_leave_their_place_in_the_result(
    name: str, section: AnnData, refused: Callable[..., str]
) -> None:
    section.uns["spatial"] = {name: {}}
    assert "a path that leaves the file" in refused(checks.text, section)
    section.uns["spatial"] = {"slice": {"scalefactors": {name: 1.0}}}
    assert "a path that leaves the file" in refused(checks.text, section)
    del section.uns["spatial"]
    checks.text(section)
    section.obs["CD4/CD8"] = 1.0  # common, and harmless
    checks.text(section)
    section.obs[name] = 1.0
    assert "obs has the name" in refused(checks.text, section)
