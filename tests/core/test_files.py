"""Files that appear whole, and what tells whether an input has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stmfg._core.files import fingerprint, replacing


@pytest.mark.parametrize("earlier", [True, False])
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, earlier: bool) -> None:
    path = tmp_path / "table.csv"
    if earlier:
        path.write_text("earlier")
    with pytest.raises(UnicodeEncodeError), replacing(path) as written:
        written.write_text("half, then \ud800")
    assert [p.read_text() for p in tmp_path.iterdir()] == (["earlier"] if earlier else [])
    with replacing(path) as written:
        assert written.suffix == ".csv"  # figures are written in the format of the name
        written.write_text("whole")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"table.csv": "whole"}


def test_a_folder_takes_its_place_too(tmp_path: Path) -> None:
    with replacing(tmp_path / "store.zarr") as written:
        written.mkdir()
        (written / "array").touch()
    assert (tmp_path / "store.zarr" / "array").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_fingerprint_sees_every_change_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    first = fingerprint(tmp_path)
    assert (first["files"], first["bytes"]) == (1, 5)
    assert first == fingerprint(tmp_path)
    os.utime(tmp_path / "deep" / "file", ns=(5, 5))
    assert fingerprint(tmp_path) == {"files": 1, "bytes": 5, "modified_ns": 5}
    (tmp_path / "other").touch()
    assert fingerprint(tmp_path)["files"] == 2
    assert fingerprint(tmp_path / "gone") == {"files": 0, "bytes": 0, "modified_ns": 0}
