"""Tables as people, R and spreadsheets write them again, and names that differ in what is before or behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stmfg
from _data import text
from _platforms import FOLDERS, WRITERS, write_cosmx
from _tenx import check, expected, write_visium


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def lines(change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_bytes(text(change)(path.read_bytes()))

    return edit


def table(change: Callable[[pd.DataFrame], pd.DataFrame], **form: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, **({"index": False} | form))

    return edit


FORMS: dict[str, Callable[[Path], None]] = {
    "tabs": table(lambda t: t, sep="\t"),
    "semicolons": table(lambda t: t, sep=";"),
    "quotes": table(lambda t: t, quoting=1),
    "other system": lines(lambda t: "\ufeff" + t.replace("\n", "\r\n")),
    "blank lines": lines(lambda t: f"\n{t}\n"),
    "R": lines(lambda t: t.partition(",")[2] if t.startswith((",", "Row,", "cell,", "EntityID,", "gene")) else t),
    "row numbers": table(lambda t: t, index=True),
    "columns in another order": table(lambda t: t[t.columns[::-1]]),
    "more columns": table(lambda t: t.assign(volume="100.5", fov=t.get("fov", "3"))),
    "upper case": table(lambda t: t.rename(columns=lambda name: name if name.startswith("Gene") else name.upper())),
    "fractions": table(lambda t: t.replace(r"^(\d{1,3})$", r"\1.0", regex=True)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["visium", "xenium text", "merscope", "cosmx", "slideseq", "stereoseq text"])
def test_a_table_in_another_form(kind: str, form: str, tissue: AnnData, run: Path) -> None:
    truth = FOLDERS[kind](run, tissue)
    if kind == "stereoseq text":
        path = (run / "C04.tissue.gem").rename(run / "C04.gem.csv")
        lines(lambda t: t.replace("\t", ",").partition("OffsetY=0\n")[2])(path)
    for path in [p for p in run.rglob("*.csv*") if "images" not in p.parts]:
        if path.name != "MappedDGEForR.csv" or form not in ("row numbers", "columns in another order", "more columns"):
            FORMS[form](path)
    check(stmfg.read(run)[:, tissue.var_names].copy(), tissue, truth)


def rename(change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        if path.suffix == ".csv":
            table(lambda t: t.assign(barcode=t["barcode"].map(change)))(path)
            return
        with h5py.File(path, "a") as file:
            names = [change(name.decode()) for name in file["matrix/barcodes"][()]]
            del file["matrix/barcodes"]
            file["matrix/barcodes"] = np.array(names, "S")

    return edit


@pytest.mark.parametrize(
    ("of_counts", "of_positions"),
    [
        ("{}-1", "{}"), ("{}", "{}-1"), ("{}", "{}"), ("S1_{}-1", "{}-1"), ("{}-1", "S1_{}-1"), ("{}-1_2", "{}-1"),
        ("S1#{}-1", "{}"), ("{}.1", "{}-1"), ("a-b_{}", "{}-1"),
    ],
)  # fmt: skip
def test_names_that_differ_in_what_is_around_them(
    of_counts: str, of_positions: str, tissue: AnnData, run: Path
) -> None:
    truth = write_visium(run, tissue)
    rename(lambda name: of_counts.format(name[:-2]))(run / "filtered_feature_bc_matrix.h5")
    rename(lambda name: of_positions.format(name[:-2]))(run / "spatial" / "tissue_positions.csv")
    check(stmfg.read(run), tissue, truth.set_axis([of_counts.format(name[:-2]) for name in truth.index], axis=0))


def test_names_of_several_samples_are_not_made_one(tissue: AnnData, run: Path, refused: Callable[..., str]) -> None:
    write_visium(run, tissue)
    names = iter(range(1000))
    rename(lambda name: f"{name[:-1]}{1 + next(names) % 2}")(run / "filtered_feature_bc_matrix.h5")
    rename(lambda name: name[:-2])(run / "spatial" / "tissue_positions.csv")
    assert "share no name" in refused(stmfg.read, run)


@pytest.mark.parametrize(
    "order",
    [
        lambda names: [*names[3:], *names[:3]],
        lambda names: [names[1], names[0], *names[2:]],
        lambda names: [*names[3:9], "fov", *names[9:15], "cell_ID", *names[15:], "cell"],
    ],
)
def test_what_names_a_cell_stands_anywhere(order: Callable[[list[str]], list[str]], tissue: AnnData, run: Path) -> None:
    truth = write_cosmx(run, tissue, gz=False, beside=True)
    table(lambda t: t[order(list(t.columns))].assign(Area="7"))(run / "Run5642_S3_exprMat_file.csv")
    check(stmfg.read(run), tissue, truth)  # what the other table has, too, is no gene


@pytest.mark.parametrize("repeated", [False, True])
def test_a_column_of_slides_tells_slices_apart(repeated: bool, tissue: AnnData, run: Path) -> None:
    write_cosmx(run, tissue, gz=False)
    slide = np.where(np.arange(tissue.n_obs) < 55, "2", "5")

    def number(t: pd.DataFrame) -> pd.DataFrame:
        t = t[t["cell_ID"] != "0"].assign(fov="1", cell_ID=lambda t: np.arange(len(t)) % (55 if repeated else 999) + 1)
        return t.assign(slide_ID=slide)

    for path in run.glob("*_file.csv"):
        if "fov_positions" not in path.name:
            table(number)(path)
    adata = stmfg.read(run)
    names = [f"{each}_1_{i % 55 + 1}" if repeated else f"1_{i + 1}" for i, each in enumerate(slide)]
    assert dict(zip(adata.obs_names, adata.obs["stmfg_slice"], strict=True)) == dict(zip(names, slide, strict=True))


def test_a_column_that_is_no_gene_is_named(tissue: AnnData, run: Path, refused: Callable[..., str]) -> None:
    WRITERS["merscope"](run, tissue)
    table(lambda t: t.assign(organ="liver"))(run / "cell_by_gene.csv")
    assert "row 1 holds 'liver' in the column 'organ'" in refused(stmfg.read, run)


@pytest.mark.parametrize("names", [("x", "y"), ("SPATIAL_1", "SPATIAL_2"), ("first", "second")])
def test_places_of_beads_go_by_name_where_names_say_it(names: tuple[str, str], tissue: AnnData, run: Path) -> None:
    WRITERS["slideseq"](run, tissue)
    beads = pd.read_csv(run / "BeadLocationsForR.csv", index_col=0).set_axis(names, axis=1)
    (run / "BeadLocationsForR.csv").unlink()
    if names[0] != "first":
        beads = beads[beads.columns[::-1]].assign(UMI=3)
    beads.rename_axis(None).to_csv(run / "S1_MatchedBeadLocation.csv")
    check(stmfg.read(run), tissue, expected(tissue, list(beads.index)))


def test_lists_of_names_that_r_wrote(tissue: AnnData, run: Path) -> None:
    truth = write_visium(run, tissue, h5=False)
    folder = run / "filtered_feature_bc_matrix"
    for path, header in ((folder / "barcodes.tsv.gz", '"x"\n'), (folder / "features.tsv.gz", '"V1"\t"V2"\t"V3"\n')):
        quoted = partial(re.sub, "[^\t\n]+", r'"\g<0>"')
        lines(lambda t, header=header, quoted=quoted: header + quoted(t))(path)
    check(stmfg.read(run), tissue, truth)
