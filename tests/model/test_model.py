"""The model as an object: fit, transform, denoise, save, load."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
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
from stmfg import STMFG, tl
from stmfg.config import PRESETS
from stmfg.errors import MissingKeyError
from stmfg.model import batches, graphs

EMPTY = [0, 137, 138]
"""Spots to be left without a count: a corner, and two neighbours."""


@pytest.fixture
def with_empty(section: AnnData) -> AnnData:
    """Return a section in which three spots have no count."""
    counts = section.X.toarray()
    counts[EMPTY] = 0
    section.X = sparse.csr_matrix(counts)
    return section


@pytest.fixture
def embedded(section: AnnData) -> AnnData:
    """Return a section that has no counts, but an embedding: noisy domains and a lot of nothing."""
    domain = pd.get_dummies(section.obs["ground_truth"]).to_numpy(np.float64)
    noise = np.random.default_rng(0).normal(size=(section.n_obs, 10))
    x = np.hstack([domain + 0.8 * noise[:, :4], noise[:, 4:]]).astype(np.float32)
    return AnnData(obs=section.obs, obsm={"spatial": section.obsm["spatial"], "X_rep": x})


def test_transform_of_the_training_data(section: AnnData, quick: dict[str, Any]) -> None:
    model = STMFG(**quick)
    assert model.fit(section) is model
    z = model.transform(section)
    assert z.dtype == np.float32
    assert z.shape == (section.n_obs, sum(model.result.widths))
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(model.transform(section), z)
    assert model.genes == list(section.var_names)
    assert len(model.history["total"]) == 3


def test_the_embedding_tells_domains_apart(section: AnnData) -> None:
    z = STMFG(epochs=10, n_layers=2).fit(section).transform(section)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    assert stmfg.metrics.asw(z, section.obs["ground_truth"]) > 0.05


@pytest.mark.parametrize("preset", PRESETS)
def test_save_and_load_change_nothing(preset: str, section: AnnData, quick: dict[str, Any], tmp_path: Path) -> None:
    model = STMFG(preset=preset, random_state=5, **quick).fit(section)
    model.save(tmp_path / "a" / "model")
    assert sorted(p.name for p in (tmp_path / "a" / "model").iterdir()) == ["model.json", "model.safetensors"]
    loaded = STMFG.load(str(tmp_path / "a" / "model"), device="cpu")
    np.testing.assert_array_equal(loaded.transform(section), model.transform(section))
    np.testing.assert_array_equal(loaded.denoise(section), model.denoise(section))
    assert loaded.config == model.config
    assert loaded.history == model.history
    assert (loaded.random_state, loaded.genes, loaded.use_rep) == (5, model.genes, None)
    assert loaded.view_weight_names == model.view_weight_names
    # And once more, from what was loaded.
    loaded.save(tmp_path / "b")
    assert (tmp_path / "b/model.json").read_bytes() == (tmp_path / "a/model/model.json").read_bytes()
    np.testing.assert_array_equal(STMFG.load(tmp_path / "b").transform(section), model.transform(section))


def test_a_model_of_an_embedding_is_saved_and_loaded(
    embedded: AnnData, quick: dict[str, Any], tmp_path: Path, refused: Callable[..., str]
) -> None:
    model = STMFG(**quick).fit(embedded, use_rep="X_rep")
    model.save(tmp_path)
    loaded = STMFG.load(tmp_path)
    assert loaded.use_rep == "X_rep"
    np.testing.assert_array_equal(loaded.transform(embedded), model.transform(embedded))
    assert "embedding" in refused(loaded.denoise, embedded)


def test_files_hold_no_pickle(section: AnnData, quick: dict[str, Any], tmp_path: Path) -> None:
    STMFG(**quick).fit(section).save(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["version"] == stmfg.__version__
    raw = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert all({"dtype", "shape", "data_offsets"} == set(v) for k, v in header.items() if k != "__metadata__")


def test_what_does_not_fit_the_model_is_refused(
    section: AnnData, embedded: AnnData, quick: dict[str, Any], refused: Callable[..., str]
) -> None:
    model = STMFG(**quick).fit(section)
    assert "30 of the 80 genes" in refused(model.transform, section[:, :30])
    section.var_names = [f"other{i}" for i in range(80)]
    assert "species" in refused(model.transform, section)
    section.var_names = model.genes
    with_rep = STMFG(**quick).fit(embedded, use_rep="X_rep")
    for width in (5, 1, 12):
        other = embedded.copy()
        other.obsm["X_rep"] = np.random.default_rng(0).normal(size=(other.n_obs, width))
        assert "'X_rep'" in refused(with_rep.transform, other)
    del embedded.obsm["X_rep"]
    assert "X_rep" in refused(with_rep.transform, embedded, kind=MissingKeyError)


def test_genes_are_matched_by_name(section: AnnData, quick: dict[str, Any]) -> None:
    model = STMFG(**quick).fit(section)
    expected, denoised = model.transform(section), model.denoise(section)
    more = section[:, ::-1].copy()
    more = ad.concat(
        [more, AnnData(more.X * 5, obs=more.obs, var=pd.DataFrame(index=[f"new{i}" for i in range(80)]))],
        axis=1,
        merge="first",
    )  # genes the model does not know have no say, nor any in the depth
    more.obsm["spatial"] = section.obsm["spatial"]
    np.testing.assert_allclose(model.transform(more), expected, atol=1e-4)
    np.testing.assert_allclose(model.denoise(more)[:, :80][:, ::-1], denoised, rtol=1e-3)
    assert np.isnan(model.denoise(more)[:, 80:]).all()


def test_a_model_that_is_not_trained_says_so(section: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    model = STMFG()
    for call in (model.transform, model.denoise, model.apply):
        assert "fit(adata)" in refused(call, section)
    assert "fit(adata)" in refused(model.save, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_unknown_options_and_devices_are_refused(refused: Callable[..., str]) -> None:
    assert "'epoch'" in refused(STMFG, epoch=3)
    assert "'papers'" in refused(STMFG, preset="papers")
    assert "'tpu'" in refused(STMFG, device="tpu")
    assert "random_state" in refused(STMFG, random_state=-1)


def no_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def not_json(folder: Path) -> None:
    (folder / "model.json").write_text("{")


def other_json(folder: Path) -> None:
    (folder / "model.json").write_text('["a", "list"]')


def bytes_that_are_no_text(folder: Path) -> None:
    (folder / "model.json").write_bytes(b"\xff\xfe\x00")


def not_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"rubbish" * 30)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def edit(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | changes))


def unknown_option(folder: Path) -> None:
    edit(folder, config={"colour": "red"})


def other_layers(folder: Path) -> None:
    record = json.loads((folder / "model.json").read_text())
    edit(folder, config=record["config"] | {"n_layers": 5, "convolution": "relu"})


@pytest.mark.parametrize(
    "damage",
    [no_files, not_json, other_json, bytes_that_are_no_text, not_safetensors, cut_short, unknown_option, other_layers],
)
def test_a_folder_that_holds_no_model_is_refused(
    damage: Callable[[Path], None], section: AnnData, quick: dict[str, Any], tmp_path: Path, refused: Callable[..., str]
) -> None:
    STMFG(**quick | {"epochs": 0}).fit(section).save(tmp_path)
    damage(tmp_path)
    assert str(tmp_path) in refused(STMFG.load, tmp_path)


def test_a_missing_folder_and_a_newer_format_are_refused(
    section: AnnData, quick: dict[str, Any], tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert "nowhere" in refused(STMFG.load, tmp_path / "nowhere")
    STMFG(**quick | {"epochs": 0}).fit(section).save(tmp_path)
    edit(tmp_path, format=99)
    assert "upgrade" in refused(STMFG.load, tmp_path)


def test_spots_without_counts(with_empty: AnnData, quick: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "stmfg"):
        model = STMFG(**quick).fit(with_empty)
    assert len(caplog.records) == 1
    for name in with_empty.obs_names[EMPTY]:
        assert name in caplog.text
    used = np.setdiff1d(np.arange(with_empty.n_obs), EMPTY)
    for values in (model.transform(with_empty), model.denoise(with_empty)):
        assert np.isnan(values[EMPTY]).all()
        assert np.isfinite(values[used]).all()


def test_spots_without_counts_take_the_domain_around_them(
    with_empty: AnnData, quick: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stmfg"):
        tl.domains(with_empty, n_domains=4, **quick)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1, said  # once is enough
    for name in with_empty.obs_names[EMPTY]:
        assert name in said[0]
    domain = with_empty.obs["stmfg_domain"].astype(str).to_numpy()
    confidence = with_empty.obs["stmfg_confidence"].to_numpy()
    assert (confidence[EMPTY] == 0).all()
    assert (np.delete(confidence, EMPTY) > 0).all()
    assert np.isfinite(with_empty.obsm["X_stmfg"]).all()
    xy = with_empty.obsm["spatial"]
    for spot in EMPTY:
        distance = np.linalg.norm(xy - xy[spot], axis=1)
        distance[EMPTY] = np.inf
        around = pd.Series(domain[np.argsort(distance)[:6]]).value_counts()
        assert around[domain[spot]] == around.max()


def test_too_few_spots_with_counts_are_refused(section: AnnData, refused: Callable[..., str]) -> None:
    counts = np.zeros(section.shape, dtype=np.float32)
    counts[:3] = 1
    section.X = sparse.csr_matrix(counts)
    assert "3 spots" in refused(STMFG(epochs=1).fit, section)


def test_fit_leaves_global_generators_and_the_data_alone(
    section: AnnData, quick: dict[str, Any], global_generators: Callable[[], Any]
) -> None:
    untouched = section.copy()
    before = global_generators()
    STMFG(**quick).fit(section).denoise(section)
    assert global_generators() == before
    assert (section.X != untouched.X).nnz == 0
    for name in ("obs", "var", "obsm", "obsp", "layers", "uns"):
        assert list(getattr(section, name)) == list(getattr(untouched, name))


def test_fit_leaves_the_number_of_threads_alone() -> None:
    # In a process of its own: some libraries set the number for all others when they first run.
    script = (
        "import stmfg, torch;"
        "stmfg.STMFG(epochs=1, n_layers=1, decoder_genes=30).fit(stmfg.datasets.simulate(200, 80));"
        "print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


def test_an_embedding_takes_the_place_of_counts(embedded: AnnData, quick: dict[str, Any]) -> None:
    assert embedded.X is None
    model = STMFG(**quick).fit(embedded, use_rep="X_rep")
    assert np.isfinite(model.transform(embedded)).all()
    tl.domains(embedded, n_domains=4, use_rep="X_rep", **quick)
    assert stmfg.metrics.ari(embedded.obs["ground_truth"], embedded.obs["stmfg_domain"]) > 0.4


def test_counts_in_a_layer(section: AnnData, quick: dict[str, Any]) -> None:
    expected = STMFG(**quick).fit(section).transform(section)
    section.layers["umi"] = section.X
    section.X = sparse.csr_matrix(np.log1p(section.X.toarray()))
    model = STMFG(**quick).fit(section, layer="umi")
    np.testing.assert_array_equal(model.transform(section, layer="umi"), expected)
    section.layers["counts"] = section.layers["umi"]  # the layer of this name needs no telling
    np.testing.assert_array_equal(STMFG(**quick).fit(section).transform(section), expected)


def test_denoised_expression(section: AnnData, quick: dict[str, Any]) -> None:
    model = STMFG(decoder_genes=30, **quick).fit(section)
    denoised = model.denoise(section)
    assert denoised.shape == section.shape
    assert denoised.dtype == np.float32
    decoded = np.isin(np.arange(section.n_vars), model.decoded)
    assert decoded.sum() == 30
    assert np.isnan(denoised[:, ~decoded]).all()
    assert np.isfinite(denoised[:, decoded]).all()
    assert (denoised[:, decoded] > 0).all()


def test_denoised_expression_is_on_the_scale_of_the_counts(section: AnnData) -> None:
    model = STMFG(epochs=10, n_layers=1, decoder_genes=0).fit(section)
    counts = section.X.toarray()
    at_median_depth = counts / counts.sum(axis=1, keepdims=True) * np.median(counts.sum(axis=1))
    expected, denoised = at_median_depth.mean(axis=0), model.denoise(section).mean(axis=0)
    assert 0.7 < np.median(denoised / expected) < 1.4
    assert np.corrcoef(np.log(expected), np.log(denoised))[0, 1] > 0.9


def other_section(adata: AnnData) -> None:
    adata.X = stmfg.datasets.simulate(300, 80, n_domains=4, random_state=9).X


def other_expression_graph(adata: AnnData) -> None:
    x = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    adata.obsp["stmfg_feature_connectivities"] = graphs.feature_graph(x, n_neighbors=4)


@pytest.mark.parametrize("change", [other_section, other_expression_graph])
def test_a_checkpoint_of_other_data_is_ignored(
    change: Callable[[AnnData], None],
    section: AnnData,
    quick: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "checkpoint"
    STMFG(**quick).fit(section, checkpoint=file)
    change(section)
    fresh = STMFG(**quick).fit(section)
    with caplog.at_level(logging.WARNING, "stmfg"):
        model = STMFG(**quick).fit(section, checkpoint=file)
    assert "starting anew" in caplog.text
    assert model.history == fresh.history


def test_a_network_trained_on_patches_is_applied_to_all(
    section: AnnData, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "TRAIN_AT_MOST", 150)
    monkeypatch.setattr(graphs, "PATCH", 40)
    model = STMFG(random_state=1, **quick)
    fitted = model.fit(section).result
    assert fitted.embedding.shape[0] == section.n_obs
    assert np.isfinite(fitted.embedding).all()
    # Not the same to the last digit: training has loadings and rotation one after the other, the model their product.
    np.testing.assert_allclose(model.transform(section), fitted.embedding, atol=1e-5)
    assert len(model.history["total"]) == quick["epochs"]
