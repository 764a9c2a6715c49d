"""What ``stmfg info`` knows, a run and ``tl`` say too: counts elsewhere, slices on top of each other, no embedding."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import stmfg
from _data import write_zarr
from _tenx import write_aggregated
from stmfg import cli
from stmfg._core import checks
from stmfg._core.geometry import spacing
from stmfg.io._read import read_for_run
from stmfg.workflow import run

Call = Callable[[list[str]], tuple[int, str, str]]


@pytest.fixture
def stmfg_shell(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Call:
    """Return a function that runs a command, and returns status, output and errors."""

    def call(arguments: list[str]) -> tuple[int, str, str]:
        status = cli.main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return call


def raw_of_all_genes(adata: AnnData) -> None:
    adata.raw = adata
    adata.X = adata.X.log1p()


def raw_of_more_genes(adata: AnnData) -> AnnData:
    adata.raw = adata
    adata.X = adata.X.log1p()
    return adata[:, ::-1][:, 5:].copy()


def raw_of_other_names(adata: AnnData) -> None:
    raw = adata[:, ::-1].copy()
    ids = [f"ENSG{i}" for i in range(raw.n_vars)]
    raw.var = pd.DataFrame({"feature_name": pd.Categorical(raw.var_names)}, index=ids)
    adata.raw = raw
    adata.X = adata.X.log1p()


def scaled_layer_of_counts(adata: AnnData) -> None:
    adata.layers["counts"] = adata.X.log1p()


def layer(name: str) -> Callable[[AnnData], None]:
    def change(adata: AnnData) -> None:
        adata.layers["scaled"] = adata.X.log1p()
        adata.layers[name] = adata.X.copy()
        adata.X = adata.X.log1p()

    return change


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
@pytest.mark.parametrize(
    ("change", "key", "where"),
    [
        (raw_of_all_genes, "raw", "adata.raw"),
        (raw_of_more_genes, "raw", "adata.raw"),
        (raw_of_other_names, "raw", "adata.raw"),
        (scaled_layer_of_counts, "X", "X"),
        (layer("umis"), "umis", "layers['umis']"),
        (layer("raw_counts"), "raw_counts", "layers['raw_counts']"),
        (layer("raw"), "raw", "layers['raw']"),
    ],
)
def test_counts_are_found_offered_and_used(
    change: Callable[[AnnData], Any],
    key: str,
    where: str,
    ending: str,
    section: AnnData,
    quick: dict[str, Any],
    tmp_path: Path,
    stmfg_shell: Call,
) -> None:
    plain = section.copy()
    changed = change(section)
    section = section if changed is None else changed
    expected = stmfg.tl.domains(plain[:, section.var_names].copy(), n_domains=3, copy=True, **quick)
    path = tmp_path / f"input.{ending}"
    section.write_h5ad(path) if ending == "h5ad" else write_zarr(section, path)
    start = ["run", str(path), "-o", str(tmp_path / "out"), "--n-domains", "3"]
    options = [word for name, value in quick.items() for word in ("--set", f"{name}={value}".replace(" ", ""))]
    status, _, err = stmfg_shell([*start, *options])
    assert status == 2
    assert err.strip().endswith(f"{where} holds raw counts: use it with --layer {key}")
    status, out, _ = stmfg_shell(["info", str(path)])
    assert status == 0
    assert f"--layer {key}" in out
    status, _, err = stmfg_shell([*start, *options, "--layer", key])
    assert status == 0, err
    result = stmfg.read(tmp_path / "out" / "result.h5ad")
    assert list(result.obs["stmfg_domain"]) == list(expected.obs["stmfg_domain"])
    np.testing.assert_array_equal(result.X.toarray(), section.X.toarray())  # untouched


def test_raw_that_lacks_genes_is_not_offered(section: AnnData, refused: Callable[..., str]) -> None:
    section.raw = section[:, 5:].copy()
    section.X = section.X.log1p()
    assert refused(stmfg.tl.domains, section, n_domains=3).endswith("adata = adata.raw.to_adata()")
    assert "does not have 5 of the genes" in refused(stmfg.tl.domains, section, n_domains=3, layer="raw")


def test_messages_speak_python_in_python(section: AnnData, refused: Callable[..., str]) -> None:
    layer("umis")(section)
    assert refused(stmfg.tl.domains, section, n_domains=3).endswith("use it with layer='umis'")
    del section.layers["umis"]
    section.obsm["X_scVI"] = np.random.default_rng(0).normal(size=(300, 10))
    assert refused(stmfg.tl.domains, section, n_domains=3).endswith("an embedding with use_rep='X_scVI'")
    del section.obsm["X_scVI"]
    section.obsm["X_spatial"] = section.obsm.pop("spatial")
    said = refused(stmfg.tl.domains, section, n_domains=3)
    assert said.endswith("adata.obsm['spatial'] = adata.obsm['X_spatial']")
    section.obs["x"], section.obs["y"] = section.obsm.pop("X_spatial").T
    said = refused(stmfg.tl.domains, section, n_domains=3)
    assert said.endswith("adata.obsm['spatial'] = adata.obs[['x', 'y']].to_numpy()")


@pytest.fixture
def slices() -> AnnData:
    """Two slices at the same places."""
    adata = stmfg.datasets.simulate_slices(2, 500, 120, n_domains=3, difficulty=0.3, random_state=3)
    adata.obs = adata.obs.rename(columns={"slice": "section_id"})
    return adata


def test_slices_on_top_of_each_other_are_not_one_tissue(
    slices: AnnData, tmp_path: Path, stmfg_shell: Call, refused: Callable[..., str]
) -> None:
    said = refused(stmfg.tl.domains, slices, n_domains=3)
    assert said.endswith("add library_key='section_id', or library_key='none' if they are one tissue")
    assert "add library_key='section_id'" in refused(stmfg.STMFG(n_domains=3, epochs=1).fit, slices)
    slices.write_h5ad(tmp_path / "input.h5ad")
    command = ["run", str(tmp_path / "input.h5ad"), "-o", str(tmp_path / "out"), "--n-domains", "3"]
    status, _, err = stmfg_shell(command)
    assert (status, "add --library-key section_id, or --library-key none if they are one" in err) == (2, True)
    assert not (tmp_path / "out").exists()
    _, out, _ = stmfg_shell(["info", str(tmp_path / "input.h5ad")])
    offered = shlex.split(next(line for line in out.splitlines() if line.startswith("  stmfg run")))
    assert offered[-2:] == ["--library-key", "section_id"]
    status, _, err = stmfg_shell([*command, *offered[-2:], "--quiet"])
    assert status == 0, err
    result = stmfg.read(tmp_path / "out" / "result.h5ad")
    assert adjusted_rand_score(result.obs["ground_truth"], result.obs["stmfg_domain"]) > 0.7


def test_what_only_looks_like_slices_can_be_taken_for_one_tissue(
    slices: AnnData, quick: dict[str, Any], tmp_path: Path, stmfg_shell: Call
) -> None:
    stmfg.tl.domains(slices, n_domains=3, library_key="none", **quick)
    assert slices.uns["stmfg"]["library_key"] == "none"
    slices.write_h5ad(tmp_path / "input.h5ad")
    command = ["run", str(tmp_path / "input.h5ad"), "-o", str(tmp_path / "out"), "--n-domains", "3", "--quiet"]
    status, _, err = stmfg_shell([*command, "--library-key", "none", "--set", "epochs=3", "--set", "n_layers=2"])
    assert status == 0, err
    result = stmfg.read(tmp_path / "out" / "result.h5ad")
    one = slices.copy()
    one.obs["constant"] = "x"
    stmfg.tl.domains(one, n_domains=3, library_key="constant", **quick)
    assert list(result.obs["stmfg_domain"]) == list(slices.obs["stmfg_domain"]) == list(one.obs["stmfg_domain"])
    assert stmfg_shell(["report", str(tmp_path / "out")])[0] == 0


def test_large_layers_that_a_run_does_not_use_stay_on_disk(
    section: AnnData, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section.layers["umis"], section.layers["dense"] = section.X.copy(), np.log1p(section.X.toarray())
    section.X = section.X * np.float32(0.37)
    section.obs["in_tissue"] = [0, *[1] * 299]
    section.layers["logs"] = section.X.copy()
    section.write_h5ad(tmp_path / "a.h5ad")
    write_zarr(section, tmp_path / "a.zarr")
    monkeypatch.setattr("stmfg.io.annotated._LARGE_LAYER", 0)
    for name in ("a.h5ad", "a.zarr"):
        part = read_for_run(tmp_path / name, None, "umis")
        on_disk = {key for key, value in part.layers.items() if type(value).__module__.startswith("dask")}
        assert on_disk == {"dense", "logs"}
        output = tmp_path / f"{name}-out"
        stmfg.workflow.run(tmp_path / name, output, n_domains=3, layer="umis", **quick)
        result = stmfg.read(output / "result.h5ad")
        for key in ("umis", "dense", "logs"):
            written, given = (sparse.csr_matrix(adata.layers[key]) for adata in (result, section[1:]))
            assert abs(written - given).max() == 0


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_barcodes_that_repeat_are_made_unique_by_the_column_that_tells_them_apart(
    slices: AnnData, tmp_path: Path, stmfg_shell: Call
) -> None:
    slices.obs["my column"] = slices.obs.pop("section_id")
    slices.obs_names = [name.rpartition("_")[0] for name in slices.obs_names]
    slices.write_h5ad(tmp_path / "a.h5ad")
    _, out, _ = stmfg_shell(["info", str(tmp_path / "a.h5ad")])
    assert "--library-key 'my column'" in out
    assert "problems" not in out
    status, _, err = stmfg_shell(["run", str(tmp_path / "a.h5ad"), "-o", str(tmp_path / "out")])
    assert (status, err.strip().endswith("names must be unique: --library-key 'my column'")) == (2, True)
    options: dict[str, Any] = {"n_domains": 3, "epochs": 2, "n_votes": 1}
    record = run(tmp_path / "a.h5ad", tmp_path / "out", library_key="my column", **options)
    assert "obs['my column'] is put behind each" in record["warnings"][0]
    assert stmfg.read(tmp_path / "out" / "result.h5ad").obs_names[0] == "spot1_slice1"


@pytest.mark.parametrize("column", ["region", "batch", "sample"])
def test_regions_of_one_tissue_are_no_slices(column: str, section: AnnData, quick: dict[str, Any]) -> None:
    section.obs[column] = section.obs["ground_truth"].astype(str)
    stmfg.tl.domains(section, n_domains=3, **quick)
    assert section.obs["stmfg_domain"].nunique() == 3


@pytest.mark.parametrize("layout", ["hex", "cells"])
def test_slices_at_the_same_places_are_told_apart_under_any_name(layout: Any, refused: Callable[..., str]) -> None:
    adata = stmfg.datasets.simulate_slices(2, 400, 60, n_domains=3, layout=layout, random_state=3)
    adata.obs["cell_type"] = np.random.default_rng(0).choice(list("abcdefgh"), adata.n_obs)
    adata.obs["my own name"] = adata.obs.pop("slice")
    assert "add library_key='my own name', or" in refused(stmfg.tl.domains, adata, n_domains=3)


@pytest.mark.parametrize("layout", ["hex", "cells"])
@pytest.mark.parametrize(("part", "column"), [(0.9, "sample"), (0.25, "sample"), (0.25, "my own name"), (0, "sample")])
def test_a_part_that_overlaps_is_enough(layout: Any, part: float, column: str, refused: Callable[..., str]) -> None:
    one, other = (stmfg.datasets.simulate(900, 40, n_domains=3, layout=layout, random_state=seed) for seed in (1, 2))
    low, high = one.obsm["spatial"].min(axis=0), one.obsm["spatial"].max(axis=0)
    xy = other.obsm["spatial"] - other.obsm["spatial"].min(axis=0) + low
    other.obsm["spatial"] = xy + np.array([(1.04 - part) * (high - low)[0], 0.13 * spacing(xy)])
    adata = anndata.concat({"a": one, "b": other}, label=column, index_unique="-")
    check = partial(checks.tissue, adata, adata.obsm["spatial"], None)
    if part:
        assert f"add library_key={column!r}, or" in refused(check)
    else:
        check()


@pytest.mark.parametrize("layout", ["hex", "cells"])
@pytest.mark.parametrize("n", [2, 5])
def test_labels_at_random_in_one_tissue_are_no_slices(layout: Any, n: int) -> None:
    adata = stmfg.datasets.simulate(900, 40, n_domains=3, layout=layout, random_state=1)
    adata.obs["batch"] = np.random.default_rng(0).integers(0, n, adata.n_obs).astype(str)
    checks.tissue(adata, adata.obsm["spatial"], None)


@pytest.mark.parametrize("form", ["{1}_{0}", "{0}-{1}"])
def test_slices_that_names_alone_tell_apart(
    form: str, slices: AnnData, quick: dict[str, Any], tmp_path: Path, refused: Callable[..., str]
) -> None:
    names = slices.obs_names.str.extract("^(spot[0-9]+)")[0]
    section = slices.obs.pop("section_id").astype(str)
    slices.obs_names = [form.format(*pair) for pair in zip(names, section, strict=True)]
    assert "in their names lie on top of each other" in refused(stmfg.tl.domains, slices, n_domains=3)
    slices.write_h5ad(tmp_path / "a.h5ad")
    record = run(tmp_path / "a.h5ad", tmp_path / "out", n_domains=3, **quick)
    assert record["options"]["library_key"] == "stmfg_slice"
    assert list(stmfg.read(tmp_path / "out" / "result.h5ad").obs["stmfg_slice"]) == list(section)


def test_slices_that_no_column_tells_are_a_warning(
    section: AnnData, quick: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    section.obsm["spatial"][150:] = section.obsm["spatial"][:150]
    stmfg.tl.domains(section, n_domains=3, **quick)
    assert "most spots lie where others do; if these are several slices" in caplog.text


def test_slices_that_reading_finds_are_kept_apart(section: AnnData, tmp_path: Path) -> None:
    write_aggregated(tmp_path / "outs", section)
    record = run(tmp_path / "outs", tmp_path / "out", n_domains=3, epochs=2, n_votes=1)
    assert record["options"]["library_key"] == "stmfg_slice"
    result = stmfg.read(tmp_path / "out" / "result.h5ad")
    assert list(result.obs["stmfg_slice"].cat.categories) == ["LV123", "LB456"]
    assert result.obs["stmfg_slice"].value_counts().to_dict() == {"LV123": 150, "LB456": 150}
    assert set(result.uns["spatial"]) == {"LV123", "LB456"}
    assert set(result.uns["spatial"]["LV123"]["images"]) == {"hires", "lowres"}
    row, column = result.obsp["spatial_connectivities"].nonzero()
    slice_of = result.obs["stmfg_slice"].to_numpy()
    assert (slice_of[row] == slice_of[column]).all()


def test_spots_beside_the_tissue_are_no_domain(section: AnnData, refused: Callable[..., str]) -> None:
    section.obs["in_tissue"] = (np.arange(300) > 9).astype(int)
    said = refused(stmfg.tl.domains, section, n_domains=3)
    assert said.startswith("10 of 300 spots are not in tissue")
    fixed = eval(said.rsplit("adata = ", 1)[1], {"adata": section})  # noqa: S307
    assert fixed.n_obs == 290


@pytest.mark.parametrize(
    "make",
    [
        lambda xy: xy,
        lambda xy: xy[:, ::-1] * 0.5,
        lambda xy: np.c_[xy, xy[:, 0]] - 7,
        lambda xy: np.c_[xy, xy.sum(axis=1), xy - 5],
    ],
)
def test_positions_are_no_embedding(
    make: Callable[..., Any], section: AnnData, tmp_path: Path, refused: Callable[..., str], stmfg_shell: Call
) -> None:
    section.obsm["X_place"] = make(section.obsm["spatial"])
    section.X = section.X.log1p()
    for key in ("spatial", "X_place"):
        said = refused(stmfg.tl.domains, section, n_domains=3, use_rep=key)
        assert f"obsm['{key}'] holds the positions of the spots" in said
    section.write_h5ad(tmp_path / "a.h5ad")
    status, _, err = stmfg_shell(["run", str(tmp_path / "a.h5ad"), "-o", str(tmp_path / "out")])
    assert status == 2
    assert "spatial" not in err.partition("expected")[2]  # nor offered


def test_an_image_beside_a_flag_is_found(section: AnnData) -> None:
    library = {"images": {"hires": np.zeros((9, 9, 3), np.uint8)}, "scalefactors": {"tissue_hires_scalef": 0.1}}
    section.uns["spatial"] = {"is_single": True, "V1": library}
    stmfg.pp.image(section)
    assert section.obsm["stmfg_image"].shape == (300, 12)


def test_a_third_coordinate_without_numbers_is_ignored(section: AnnData, quick: dict[str, Any]) -> None:
    expected = stmfg.tl.domains(section, n_domains=3, copy=True, **quick)
    section.obsm["spatial"] = np.c_[section.obsm["spatial"], np.full(300, np.nan)]
    stmfg.tl.domains(section, n_domains=3, **quick)
    assert list(section.obs["stmfg_domain"]) == list(expected.obs["stmfg_domain"])
