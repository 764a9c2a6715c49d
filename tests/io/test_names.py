"""What people and archives do to the names of files: prefixes, suffixes, compression, flat folders, several samples."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from anndata import AnnData

import stmfg
from _platforms import FOLDERS, write_cosmx, write_merscope, write_slideseq
from _tenx import check, write_visium

KEPT = re.compile(
    r"(spatial|binned_outputs|square_\d+um|segmented_outputs|barcode_matching|feature_expression|images)$"
)


# The forms that differ in the names of their files.
KINDS = [kind for kind in FOLDERS if kind not in ("merscope before", "cosmx with names", "stereoseq by SAW 7")]


def files(folder: Path) -> list[Path]:
    """Return the files of a folder, and its matrices that are folders, whose names archives change."""
    inside = [p for p in folder.rglob("*") if p.is_dir() and not KEPT.search(p.name) and p.parent.name != "images"]
    return [p for p in folder.rglob("*") if p.is_file() and not any(p.is_relative_to(d) for d in inside)] + inside


def prefix(path: Path) -> None:
    path.rename(path.with_name(f"GSM123_sample-A_{path.name}"))


def suffix(path: Path) -> None:
    stem, dot, ends = path.name.partition(".")
    if not re.search(r"\.(gef|mtx|tsv|txt)", path.name):
        path.rename(path.with_name(f"{stem}_S1R1{dot}{ends}"))


def compress(path: Path) -> None:
    for file in [path] if path.is_file() else list(path.iterdir()):
        if file.suffix != ".gz":
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()


def flatten(path: Path) -> None:
    if path.parent.name in ("spatial", "barcode_matching", "feature_expression"):
        path.rename(path.parents[1] / path.name)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def shout(path: Path) -> None:
    if path.is_file() and ".gef" not in path.name:
        path.rename(path.with_name(path.name.upper()))


def hidden_double(path: Path) -> None:
    """Leave what macOS leaves beside every file on a foreign disk."""
    path.with_name(f"._{path.name}").write_bytes(b"\0Mac OS X")


def two(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        for each in changes[:-1]:
            each(path)
        changes[-1](next(p for p in path.parent.iterdir() if path.name in p.name))

    return change


CHANGES = [prefix, suffix, shout, hidden_double, two(prefix, compress), two(compress, flatten), two(prefix, flatten)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_found_under_another_name(
    kind: str, change: Callable[[Path], None], tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = FOLDERS[kind](tmp_path / "run", tissue)
    for path in files(tmp_path / "run"):
        change(path)
    check(stmfg.read(tmp_path / "run"), tissue, expected)
    check(stmfg.read(tmp_path / "run", platform=kind.split()[0]), tissue, expected)
    assert caplog.text == ""


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_under_another_name_is_found(kind: str, tissue: AnnData, tmp_path: Path) -> None:
    expected = FOLDERS[kind](tmp_path / "run", tissue)
    for number in range(len(files(tmp_path / "run"))):
        for change in (prefix, suffix, compress, flatten):
            shutil.copytree(tmp_path / "run", tmp_path / "changed")
            change(files(tmp_path / "changed")[number])
            check(stmfg.read(tmp_path / "changed"), tissue, expected)
            shutil.rmtree(tmp_path / "changed")


@pytest.mark.parametrize("kind", ["visium", "visium mtx", "xenium text", "merscope", "cosmx", "slideseq matched"])
def test_of_several_samples_one_is_chosen_by_its_file(
    kind: str, tissue: AnnData, tmp_path: Path, refused: Callable[..., str]
) -> None:
    both = {}
    for name in ("GSM1_a", "GSM2_b"):
        both[name] = FOLDERS[kind](tmp_path / name, tissue)
        for path in files(tmp_path / name):
            flatten(path)
        for path in list((tmp_path / name).iterdir()):
            if path.name != "images":
                (tmp_path / "run").mkdir(exist_ok=True)
                path.rename(tmp_path / "run" / f"{name}_{path.name}")
        tissue = tissue[::-1].copy()
    said = refused(stmfg.read, tmp_path / "run")
    assert "several samples (GSM1_a_" in said
    assert "GSM2_b_" in said
    one = said.rsplit(" ", 1)[1]
    check(stmfg.read(one), tissue, both["GSM1_a"])
    for name, expected in both.items():
        chosen = one.replace("GSM1_a", name)
        check(stmfg.read(chosen), tissue, expected)
        tissue = tissue[::-1].copy()


@pytest.mark.parametrize("end", ["", "_S1"])
@pytest.mark.parametrize("start", ["", "GSM1_a_", "GSM1_filtered_feature_bc_matrix_"])
@pytest.mark.parametrize("kind", ["visium mtx", "xenium text"])
def test_a_matrix_of_three_files_beside_the_others(
    kind: str, start: str, end: str, tissue: AnnData, tmp_path: Path
) -> None:
    expected = FOLDERS[kind](tmp_path / "run", tissue)
    folder = next(p for p in (tmp_path / "run").iterdir() if p.name.endswith("_matrix"))
    for path in list(folder.iterdir()):
        stem, dot, ends = path.name.partition(".")
        path.rename(tmp_path / "run" / f"{start}{stem}{end}{dot}{ends}")
    folder.rmdir()
    check(stmfg.read(tmp_path / "run"), tissue, expected)


def test_what_is_around_a_sample_leads_to_it(tissue: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    expected = write_visium(tmp_path / "data" / "S1" / "outs", tissue)
    check(stmfg.read(tmp_path / "data" / "S1" / "outs" / "spatial"), tissue, expected)
    write_visium(tmp_path / "data" / "S2" / "outs", tissue)
    message = refused(stmfg.read, tmp_path / "data")
    assert "folders that stMFG reads (S1, S2); give" in message
    check(stmfg.read(message.rpartition("give ")[2]), tissue, expected)


def test_a_file_of_a_sample_is_no_sheet(tissue: AnnData, tmp_path: Path) -> None:
    write_merscope(tmp_path / "run", tissue)
    stmfg.workflow.run(tmp_path / "run" / "cell_by_gene.csv", tmp_path / "out", n_domains=3, epochs=2)
    assert stmfg.read(tmp_path / "out" / "result.h5ad").n_obs == tissue.n_obs


def test_files_of_another_sample_are_not_taken(tissue: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    write_visium(tmp_path / "run", tissue)
    matrix = tmp_path / "run" / "filtered_feature_bc_matrix.h5"
    (tmp_path / "run" / "GSM1_filtered_feature_bc_matrix.h5").write_bytes(matrix.read_bytes())
    (tmp_path / "run" / "GSM2_filtered_feature_bc_matrix.h5").write_bytes(matrix.read_bytes())
    matrix.unlink()  # barcodes are the same on all slides: whose spatial/ this is cannot be known
    said = refused(stmfg.read, tmp_path / "run" / "GSM2_filtered_feature_bc_matrix.h5")
    assert "has no tissue_positions.csv(.gz)" in said
    assert "of the sample 'GSM2'" in said
    (tmp_path / "run" / "spatial").rename(tmp_path / "run" / "GSM2_spatial")
    assert stmfg.read(tmp_path / "run" / "GSM2_filtered_feature_bc_matrix.h5").n_obs == tissue.n_obs


@pytest.mark.parametrize(
    ("counts", "cells"),
    [
        ("mouse_map_Slice1_cell_by_gene_S1R1.csv", "mouse_map_Slice1_cell_metadata_S1R1.csv"),
        ("cell_by_gene.cellpose.csv", "cell_metadata.cellpose.csv"),
        ("Cell_By_Gene.csv", "Cell_Metadata.csv"),
    ],
)
def test_names_of_releases(counts: str, cells: str, tissue: AnnData, tmp_path: Path) -> None:
    expected = write_merscope(tmp_path / "run", tissue)
    (tmp_path / "run" / "cell_by_gene.csv").rename(tmp_path / "run" / counts)
    (tmp_path / "run" / "cell_metadata.csv").rename(tmp_path / "run" / cells)
    check(stmfg.read(tmp_path / "run"), tissue, expected)


def test_two_segmentations_of_one_region(tissue: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    write_merscope(tmp_path / "run", tissue)
    other = write_merscope(tmp_path / "other", tissue[::2].copy())
    for name in ("cell_by_gene.csv", "cell_metadata.csv"):
        (tmp_path / "other" / name).rename(tmp_path / "run" / f"cellpose_{name}")
    assert "several samples (cell_by_gene.csv, cellpose_cell_by_gene.csv)" in refused(stmfg.read, tmp_path / "run")
    check(stmfg.read(tmp_path / "run" / "cellpose_cell_by_gene.csv"), tissue[::2], other)


def test_names_that_only_look_alike_are_another_file(
    tissue: AnnData, tmp_path: Path, refused: Callable[..., str]
) -> None:
    expected = write_slideseq(tmp_path / "run", tissue, text=True)
    (tmp_path / "run" / "Puck_200115_08.digital_expression_summary.txt").write_text("CELL_BARCODE\tNUM_GENES\n")
    check(stmfg.read(tmp_path / "run"), tissue, expected)
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "T_cells.csv").write_text("a,b\n")
    assert "of a kind stMFG does not read" in refused(stmfg.read, tmp_path / "no")
    write_cosmx(tmp_path / "flat", tissue)
    (tmp_path / "flat" / "S3_fov_positions_file.csv").write_text("fov\n1\n")
    assert stmfg.read(tmp_path / "flat").n_obs == tissue.n_obs
