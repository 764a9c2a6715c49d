"""Public data sets: a download is whole or absent, and its conversion keeps counts, places and labels apart."""

from __future__ import annotations

import hashlib
import http.server
import inspect
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import rdata
from anndata import AnnData
from rdata.conversion.to_r import DEFAULT_CLASS_MAP, build_r_object

import accuracy
import convert
import originals

BODY = b"barcode\tlayer\n" * 5000


class Server(http.server.ThreadingHTTPServer):
    """Serves ``pages``, counts what is asked for, and cuts every answer off after ``limit`` bytes."""

    pages: dict[str, bytes]
    asked: list[str]
    limit: int | None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path not in self.server.pages:
            self.send_error(404)
            return
        body = self.server.pages[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.limit])

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.pages, server.asked, server.limit = {"/labels.tsv": BODY}, [], None
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, checksum: str = "", page: str = "/labels.tsv") -> Path:
    return originals.fetch("labels.tsv", server.address + page, checksum, folder)


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch(server, tmp_path, hashlib.sha256(BODY).hexdigest()).read_bytes() == BODY
    assert server.asked == ["/labels.tsv"]


@pytest.mark.parametrize(
    ("limit", "checksum", "page", "reason"),
    [
        (1000, "", "/labels.tsv", "cut off"),
        (None, hashlib.sha256(b"else").hexdigest(), "/labels.tsv", "checksum"),
        (None, "", "/gone.tsv", "404"),
    ],
)
def test_a_download_that_fails_leaves_nothing_and_the_next_call_gets_it(
    limit: int | None, checksum: str, page: str, reason: str, server: Server, tmp_path: Path, refused: Any
) -> None:
    server.limit = limit
    message = refused(fetch, server, tmp_path, checksum, page, kind=originals.OriginalError)
    assert reason in message
    assert "labels.tsv" in message or server.address + page in message
    assert not any(tmp_path.iterdir())
    server.limit = None
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_without_a_published_checksum_the_first_download_sets_it(server: Server, tmp_path: Path, refused: Any) -> None:
    path, note = fetch(server, tmp_path), tmp_path / "labels.tsv.sha256"
    assert note.read_text().strip() == hashlib.sha256(BODY).hexdigest()
    path.write_bytes(b"damaged on disk")
    assert fetch(server, tmp_path).read_bytes() == BODY
    path.unlink()
    server.pages["/labels.tsv"] = b"changed by its authors"
    assert "checksum" in refused(fetch, server, tmp_path, kind=originals.OriginalError)
    assert [p.name for p in tmp_path.iterdir()] == [note.name]


def test_every_public_set_has_the_files_its_converter_takes() -> None:
    table = originals.files()
    assert set(table["set"]) == set(originals.ORIGINALS)
    for name, original in originals.ORIGINALS.items():
        parts = table.loc[table["set"] == name, "part"].tolist()
        taken = [p for p in inspect.signature(original.convert).parameters if p != "section"]
        assert parts == taken, name
    assert table["address"].str.match(r"https?://\S+$").all()
    assert table["page"].str.startswith("https://").all()
    assert table["sha256"].str.fullmatch(r"([0-9a-f]{64})?").all()
    assert (table.groupby("file")["address"].nunique() == 1).all()


def matrix_h5(path: Path, adata: AnnData) -> Path:
    """Write counts as Space Ranger does."""
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        X = adata.X.tocsr().astype(np.int32)
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(X, key)
        group["shape"] = np.asarray(adata.shape[::-1], np.int32)
        group.create_dataset("barcodes", data=adata.obs_names.to_numpy(object), dtype=text)
        group.create_dataset("features/id", data=adata.var_names.to_numpy(object), dtype=text)
    return path


def positions_csv(adata: AnnData) -> bytes:
    """Return Space Ranger's table of positions, with a spot out of tissue and in another order."""
    rows = [("OUT-1", 0, 0, 0, 1, 1)]
    rows += [(name, 1, 0, 0, y, x) for name, (x, y) in zip(adata.obs_names, adata.obsm["spatial"], strict=True)]
    return pd.DataFrame(rows[::-1]).to_csv(header=False, index=False).encode()


def check(annotated: tuple[AnnData, pd.Series], section: AnnData, unlabelled: int = 1) -> None:
    """Compare a converted section with the one that was written; its first spots have no label."""
    adata, truth = annotated
    wanted = section[adata.obs_names]
    np.testing.assert_array_equal(adata.X.toarray(), wanted.X.toarray())
    np.testing.assert_allclose(adata.obsm["spatial"], wanted.obsm["spatial"])
    assert adata.obs.columns.empty
    assert truth.index.equals(adata.obs_names)
    assert truth.isna().sum() == unlabelled
    expected = wanted.obs["ground_truth"].astype(str)[truth.notna().to_numpy()]
    assert truth.dropna().tolist() == expected.tolist()


def test_prefrontal_cortex_and_breast_cancer(section: AnnData, tmp_path: Path) -> None:
    section.obsm["spatial"] = section.obsm["spatial"].round(1)
    counts, body = matrix_h5(tmp_path / "counts.h5", section), positions_csv(section)
    positions, layers = tmp_path / "positions.txt", tmp_path / "layers.tsv"
    positions.write_bytes(body)
    lines = [f"{name}\t151673\t{label}" for name, label in section.obs["ground_truth"].items()]
    elsewhere = [f"{name}\t151507\tL1" for name in section.obs_names]  # the same barcodes are on every slide
    layers.write_text("\n".join(elsewhere + lines[1:]) + "\n")
    check(convert.dlpfc(counts, positions, layers, section="151673"), section)
    with tarfile.open(tmp_path / "spatial.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("spatial/tissue_positions_list.csv")
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    regions = pd.DataFrame({"ID": section.obs_names, "annot_type": "x", "fine_annot_type": list(labels(section))})
    regions[1:].to_csv(tmp_path / "metadata.tsv", sep="\t", index=False)
    found = convert.breast(counts, tmp_path / "spatial.tar.gz", tmp_path / "metadata.tsv")
    check(found, section)


def labels(section: AnnData) -> pd.Series:
    return section.obs["ground_truth"].astype(str)


def places(section: AnnData) -> pd.DataFrame:
    return pd.DataFrame(section.obsm["spatial"], columns=["x", "y"], index=section.obs_names)


def test_visual_cortex(section: AnnData, tmp_path: Path) -> None:
    given = AnnData(section.X, obs=places(section).assign(cluster_name="eL4"), var=section.var[[]])
    given.obs.loc[given.obs_names[-5:], "cluster_name"] = None  # cells of no type are left out
    given.write_h5ad(tmp_path / "cells.h5ad")
    pd.DataFrame({"smoothed_manual": labels(section)[1:-5]}).to_csv(tmp_path / "layers.csv")
    found = convert.starmap_visual_cortex(tmp_path / "cells.h5ad", tmp_path / "layers.csv")
    assert found[0].n_obs == section.n_obs - 5
    check(found, section)


class Matrix:
    """A matrix of R: genes x cells, with names."""

    def __init__(self, section: AnnData) -> None:
        self.values = section.X.toarray().T.astype(float)
        self.names = [section.var_names.to_numpy(str), section.obs_names.to_numpy(str)]

    def to_r(self, converter: Any) -> Any:
        plain = converter.convert_to_r_object(self.values.ravel(order="F"))
        attributes = {"dim": np.array(self.values.shape, np.int32), "dimnames": self.names}
        return build_r_object(
            plain.info.type, value=plain.value, attributes=converter.convert_to_r_attributes(attributes)
        )


def r_file(path: Path, section: AnnData, name: str, names: tuple[str, str]) -> Path:
    """Write an R workspace with a list of counts and a list of tables of cells."""
    cells = places(section).assign(z=labels(section))
    cells.index = pd.Index(section.obs_names.to_numpy(object))
    data = {names[0]: {name: Matrix(section)}, names[1]: {name: cells}}
    rdata.write_rda(path, data, constructor_dict={**DEFAULT_CLASS_MAP, Matrix: Matrix.to_r})
    return path


def test_r_workspaces(section: AnnData, tmp_path: Path) -> None:
    path = r_file(tmp_path / "data.RData", section, "BZ5", ("starmap_cnts", "starmap_info"))
    check(convert.starmap_cortex(path, section="BZ5"), section, unlabelled=0)
    section.X = section.X * 0.7  # no whole numbers
    path = r_file(tmp_path / "data.RData", section, "-0.04", ("cnts_mult", "info_mult"))
    adata, truth = convert.merfish(path, section="-0.04")  # given as components
    assert adata.shape == (section.n_obs, 0)
    assert adata.obsm["X_pca"].shape == (section.n_obs, 20)
    assert truth.tolist() == labels(section).tolist()


def test_loom(section: AnnData, tmp_path: Path) -> None:
    regions = labels(section)
    regions.iloc[0] = "Excluded"
    with h5py.File(tmp_path / "cells.loom", "w") as file:
        file["matrix"] = section.X.toarray().T
        file["row_attrs/Gene"] = section.var_names.to_numpy(bytes)
        for key, values in {
            "CellID": section.obs_names.to_numpy(bytes),
            **dict(zip("XY", section.obsm["spatial"].T, strict=True)),
            "Valid": (np.arange(section.n_obs) < section.n_obs - 3).astype(int),
            "Region": regions.to_numpy(bytes),
        }.items():
            file[f"col_attrs/{key}"] = values
    found = convert.osmfish(tmp_path / "cells.loom")
    assert found[0].n_obs == section.n_obs - 3
    check(found, section)


def test_from_address_to_scores(section: AnnData, server: Server, tmp_path: Path) -> None:
    name = "starmap_mpfc_BZ5_public"
    source = r_file(tmp_path / "d.RData", section, "20180417_BZ5_control", ("starmap_cnts", "starmap_info"))
    server.pages["/d.RData"] = source.read_bytes()
    table = tmp_path / "files.tsv"
    table.write_text(
        "set\tpart\tfile\taddress\tsha256\tpage\n"
        f"{name}\tdata\td.RData\t{server.address}/d.RData\t\thttps://x\n"
        f"osmfish_somatosensory_cortex\tdata\tbad.loom\t{server.address}/gone\t\thttps://x\n"
    )
    folder = tmp_path / "data"
    call = [str(folder), "--files", str(table), "--sets"]
    assert originals.main([*call, "osmfish_somatosensory_cortex", name]) == 1  # one of two
    assert originals.main([*call, name]) == 0
    assert server.asked.count("/d.RData") == 1
    assert {path.name for path in folder.iterdir()} == {
        *("originals", "manifest.tsv", f"{name}.h5ad", f"{name}.truth.csv")
    }
    assert ad.read_h5ad(folder / f"{name}.h5ad").obs.columns.empty

    rows = tmp_path / "results" / "table.tsv"
    call = [str(folder), "-o", str(rows), "--manifest", str(folder / "manifest.tsv"), "--methods", "mixture"]
    accuracy.main([*call, "--seeds", "1"])
    (row,) = pd.read_csv(rows, sep="\t").to_dict("records")
    assert (row["exit"], row["k"]) == ("ok", 4)
    assert row["ari"] > 0.3  # of a method that knows no space


@pytest.mark.parametrize("name", ["osmfish_somatosensory_cortex", "starmap_mpfc_BZ5_public"])
def test_a_file_of_another_form_is_refused(name: str, server: Server, tmp_path: Path, capsys: Any) -> None:
    server.pages["/cells"] = b"<html>moved</html>"
    table = tmp_path / "files.tsv"
    table.write_text(
        f"set\tpart\tfile\taddress\tsha256\tpage\n{name}\tdata\tcells\t{server.address}/cells\t\thttps://x\n"
    )
    assert originals.main([str(tmp_path / "data"), "--files", str(table), "--sets", name]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "not of the form expected" in line
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["originals"]
