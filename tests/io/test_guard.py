"""Files of strangers: nothing of them runs, leads elsewhere, fills the memory, or points out of itself."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from _data import write_zarr
from stmfg import STMFG, read
from stmfg._core.checks import counts
from stmfg.errors import InputError


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def h5ad(section: AnnData, tmp_path: Path) -> Path:
    section.write_h5ad(tmp_path / "input.h5ad")
    return tmp_path / "input.h5ad"


@pytest.fixture(params=[2, 3])
def store(request: pytest.FixtureRequest, section: AnnData, tmp_path: Path) -> Path:
    write_zarr(section, tmp_path / "input.zarr", request.param)
    return tmp_path / "input.zarr"


def external_link(file: h5py.File, other: Path) -> None:
    file["uns/x"] = h5py.ExternalLink(str(other), "/secret")


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("uns/x", (20,), "u1", external=[(str(other), 0, 20)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "secret", shape=(3,))
    file.create_virtual_dataset("uns/x", layout)


@pytest.mark.parametrize("change", [external_link, external_storage, virtual])
def test_values_of_another_file_are_refused(h5ad: Path, change: Any, refused: Callable[..., str]) -> None:
    other = h5ad.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["secret"] = np.arange(3.0)
    with h5py.File(h5ad, "r+") as file:
        change(file, other)
    assert "'uns/x' is taken from another file" in refused(read, h5ad)


@pytest.mark.parametrize("size", [10**9, 2**62])
def test_what_is_declared_and_not_stored_is_refused(h5ad: Path, size: int, refused: Callable[..., str]) -> None:
    with h5py.File(h5ad, "r+") as file:
        file.create_dataset("uns/x", (size,), "f4", chunks=(64,))
    assert "stores none" in refused(read, h5ad)


def test_more_than_the_memory_is_refused(
    h5ad: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setattr("stmfg.io.guard.memory", lambda: 1000.0)
    assert "of memory" in refused(read, h5ad)


def test_links_inside_a_file_are_followed(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        file["obsm/copy"] = h5py.SoftLink("/obsm/spatial")
    assert "copy" in read(h5ad).obsm


@pytest.mark.parametrize("place", ["indices", "indptr"])
@pytest.mark.parametrize("element", ["X", "obsp/spatial_connectivities"])
def test_indices_out_of_range_are_refused(
    section: AnnData, tmp_path: Path, element: str, place: str, refused: Callable[..., str]
) -> None:
    section.obsp["spatial_connectivities"] = sparse.eye_array(section.n_obs, format="csr", dtype=np.float32)
    section.write_h5ad(tmp_path / "input.h5ad")
    with h5py.File(tmp_path / "input.h5ad", "r+") as file:
        file[element][place][5] = 2**30
    refused(read, tmp_path / "input.h5ad")
    refused(lambda: counts(read(tmp_path / "input.h5ad", lazy=True)))


def _arrays(store: Path) -> list[Path]:
    return [p for p in store.rglob("*") if p.name in (".zarray", "zarr.json") and "shape" in json.loads(p.read_text())]


def test_pickled_chunks_are_refused(store: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    array = next(p for p in _arrays(store) if "spatial" in str(p))
    said = json.loads(array.read_text())
    if array.name == ".zarray":
        said |= {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None}
    else:
        said["codecs"] = [{"name": "numcodecs.pickle", "configuration": {"id": "pickle"}}]
    array.write_text(json.dumps(said))
    for chunk in (p for p in array.parent.rglob("*") if p.is_file() and p != array):
        chunk.write_bytes(pickle.dumps(Payload(tmp_path / "run")))
    assert "is pickled" in refused(read, store)
    assert not (tmp_path / "run").exists()


def test_links_out_of_a_store_are_refused(store: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    chunk = next(p for p in (store / "obsm" / "spatial").rglob("*") if p.is_file() and p.name[0] not in ".z")
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    assert "link out of the store" in refused(read, store)


def test_a_store_that_is_itself_a_link_is_read(store: Path, tmp_path: Path) -> None:
    (tmp_path / "linked.zarr").symlink_to(store)
    assert read(tmp_path / "linked.zarr").n_obs == read(store).n_obs


def test_pieces_that_are_not_there_are_refused(store: Path, refused: Callable[..., str]) -> None:
    for array in _arrays(store):
        said = json.loads(array.read_text())
        said["shape"] = [10**12 for _ in said["shape"]]
        array.write_text(json.dumps(said))
    assert "pieces" in refused(read, store)


@pytest.mark.parametrize("name", ["input.h5ad", "input.gef", "input.zarr/obs/zarr.json"])
def test_pipes_are_refused(tmp_path: Path, name: str, refused: Callable[..., str]) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parents[1] / "var").mkdir(exist_ok=True) if "/" in name else None
    os.mkfifo(path)
    assert "device or a pipe" in refused(read, tmp_path / name.split("/")[0])


def test_what_unpacked_is_larger_than_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    (tmp_path / "input.h5ad.gz").write_bytes(gzip.compress(bytes(2**25)))
    with zipfile.ZipFile(tmp_path / "input.zarr.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tables/table/X", bytes(2**25))
    monkeypatch.setattr("stmfg.io.guard.memory", lambda: 1e6)
    for path in tmp_path.iterdir():
        assert "larger than the memory when it is unpacked" in refused(read, path)


@pytest.mark.parametrize("name", ["../../secret", "/tmp/secret", "tables/../../secret"])  # noqa: S108
def test_a_zip_file_that_leads_out_is_refused(name: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    with zipfile.ZipFile(tmp_path / "input.zarr.zip", "w") as archive:
        archive.writestr(name, b"x")
    assert "leads out of it" in refused(read, tmp_path / "input.zarr.zip")


@pytest.mark.parametrize("form", ["folder", "content"])
def test_a_zipped_store_is_read(form: str, store: Path, section: AnnData, tmp_path: Path) -> None:
    root = store.parent if form == "folder" else store
    where = {"root_dir": root, "base_dir": store.name if form == "folder" else "."}
    shutil.make_archive(str(tmp_path / "zipped.zarr"), "zip", **where)
    adata = read(tmp_path / "zipped.zarr.zip")
    np.testing.assert_array_equal(adata.X.toarray(), section.X.toarray())
    np.testing.assert_array_equal(adata.obsm["spatial"], section.obsm["spatial"])


@pytest.mark.parametrize(("name", "packed"), [("a.h5ad.gz", True), ("A.H5AD", False), ("a.h5", False)])
def test_other_names_of_h5ad(
    name: str, packed: bool, h5ad: Path, section: AnnData, refused: Callable[..., str]
) -> None:
    content = h5ad.read_bytes()
    path = h5ad.with_name(name)
    assert refused(read, h5ad.parent).endswith(f"give that: {h5ad}")
    path.write_bytes(gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(read(path).X.toarray(), section.X.toarray())


def test_a_model_file_runs_no_code(section: AnnData, quick: dict[str, Any], tmp_path: Path) -> None:
    STMFG(**quick).fit(section).save(tmp_path / "model")
    whole = (tmp_path / "model" / "model.safetensors").read_bytes()
    payload = pickle.dumps(Payload(tmp_path / "run"))
    header = json.dumps({"x": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}).encode()
    framed = len(header).to_bytes(8, "little") + header + payload
    for content in (payload, framed, whole[:8] + payload, payload + whole):
        (tmp_path / "model" / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="no readable stMFG model"):
            STMFG.load(tmp_path / "model")
    assert not (tmp_path / "run").exists()


def test_a_model_file_that_asks_for_too_much_is_refused(
    section: AnnData, quick: dict[str, Any], tmp_path: Path
) -> None:
    STMFG(**quick).fit(section).save(tmp_path / "model")
    record = tmp_path / "model" / "model.json"
    whole = json.loads(record.read_text())
    wrong: dict[str, list[Any]] = {"n_in": [2**40, -1], "genes": [7], "spot_size": ["x"]}
    for key, values in (wrong | {"config": [{"decoder_width": 2**50}]}).items():
        for value in values:
            record.write_text(json.dumps(whole | {key: value}))
            with pytest.raises(InputError):
                STMFG.load(tmp_path / "model")
