"""Reading what 10x Genomics' software writes: Space Ranger (Visium and Visium HD) and Xenium."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg._core.blocks import checked_indices
from stmfg._keys import PLATFORM, SPATIAL
from stmfg.errors import InputError
from stmfg.io.guard import fits, hdf5, regular
from stmfg.io.platforms import MATRIX
from stmfg.io.tables import COPY, GENE_EXPRESSION, one_file, place, quiet_names, read_parquet, read_table, reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    Strings = NDArray[np.str_]

logger = logging.getLogger("stmfg")

_COLUMNS: Final = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
_POSITION_FILES: Final = ("tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet")
_COPY: Final = "copy it from Space Ranger's outs"
_SAID: Final = ("run_name", "region_name", "panel_name", "analysis_sw_version")  # by experiment.xenium
_BINS: Final = ("square_016um", "square_008um")  # best first: smaller ones have hardly a count


def _find_matrix(folder: Path) -> Path | None:
    """Return the HDF5 file or mtx folder with the filtered counts, None where there is neither."""
    found = [p for p in (folder / f"{MATRIX}.h5", folder / MATRIX) if p.exists()][:1]
    # Files downloaded from 10x or GEO have the sample's name in front.
    found = found or sorted(folder.glob(f"*_{MATRIX}.h5"))
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise InputError(f"{folder} holds several samples ({names}); make a folder for each, with its own spatial/")
    return regular(found[0]) if found else None


def read_space_ranger(folder: Path, *, images: bool) -> AnnData:
    """Read a Space Ranger ``outs`` folder."""
    matrix = _find_matrix(folder)
    if matrix is None:
        raise InputError(f"{folder} has no {MATRIX}.h5 and no folder {MATRIX}; {_COPY}")
    # The small files first: what is wrong with them shows before the wait for the matrix.
    positions, scalefactors = _read_positions(folder / "spatial"), _read_scalefactors(folder / "spatial")
    with quiet_names():
        adata, attrs = _read_matrix(matrix, _COPY)
        adata = _place(adata, positions, folder)

    names = [n for n in (folder.resolve().name, folder.resolve().parent.name) if n not in ("", "outs")]
    library_id = _text([*np.ravel(attrs.get("library_ids", [])), *names, "library"][0])
    adata.uns["spatial"] = {
        library_id: {
            "images": _read_images(folder / "spatial") if images else {},
            "scalefactors": scalefactors,
            "metadata": {k: _text(attrs[k]) for k in ("chemistry_description", "software_version") if k in attrs},
        }
    }
    adata.uns[PLATFORM] = {"taken": matrix.name, "unit": "pixels of the full-resolution image"}
    return adata


def read_visium_hd(folder: Path, *, images: bool) -> AnnData:
    """Read the folder of a Visium HD run, at the best of its bin sizes."""
    bins = folder / "binned_outputs" if (folder / "binned_outputs").is_dir() else folder
    there = sorted(p.name for p in bins.glob("square_*um") if p.is_dir())
    size = next((name for name in _BINS if name in there), None)
    if size is None:
        found = ", ".join(str(bins / name) for name in there) or "none found"
        raise InputError(f"{bins} has no {' or '.join(_BINS)}; give the folder of one bin size ({found})")
    logger.info("of %s, %s is taken; give the folder of another to read that", ", ".join(there), size)
    adata = read_space_ranger(bins / size, images=images)
    adata.uns[PLATFORM]["taken"] = f"{size} (of {', '.join(there)})"
    return adata


def read_xenium(folder: Path, matrices: Sequence[str], cells: Sequence[str]) -> AnnData:
    """Read a Xenium folder: cells with their centroids, gene expression only."""
    tables = [p for p in map(folder.joinpath, cells) if p.is_file()]
    if importlib.util.find_spec("pyarrow") is None:  # the same table lies there as text, too
        tables.sort(key=lambda p: p.suffix == ".parquet")
    table = tables[0] if tables else one_file(folder, cells)
    matrix = one_file(folder, matrices)
    columns = ["cell_id", "x_centroid", "y_centroid"]
    positions = read_table(table, columns, text=columns[:1]).set_index("cell_id")
    experiment = _read_experiment(folder / "experiment.xenium")
    with quiet_names():
        adata, _ = _read_matrix(matrix, COPY)
    adata = place(adata, positions, folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "micrometres"} | experiment
    return adata


def _read_experiment(path: Path) -> dict[str, str]:
    """Read what a Xenium run says of itself, if it does."""
    if not path.is_file():
        return {}
    with reading(str(path), COPY):
        said = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(said, dict):
        raise InputError(f"{path} is not a JSON object but a {type(said).__name__}; {COPY}")
    return {
        key: str(said[key]) for key in ("run_name", "region_name", "panel_name", "analysis_sw_version") if key in said
    }


def _read_matrix(path: Path, fix: str) -> tuple[AnnData, dict[str, Any]]:
    """Read a 10x matrix, HDF5 or a folder of mtx and tsv."""
    with reading(str(path), fix):
        return _read_matrix_folder(path) if path.is_dir() else _read_matrix_h5(path)


def _read_matrix_h5(path: Path) -> tuple[AnnData, dict[str, Any]]:
    """Read a 10x HDF5 matrix, version 3 or the older layout with a group per genome."""
    import h5py
    from scipy import sparse

    with h5py.File(path, "r") as file:
        fits(hdf5(file), path)
        if "matrix" in file:
            group = file["matrix"]
            ids, symbols, kinds = (_strings(group["features"][k]) for k in ("id", "name", "feature_type"))
        else:
            if len(file) != 1:
                raise InputError(f"{path} holds {len(file)} genomes ({', '.join(file)}); give a matrix of one genome")
            group = file[next(iter(file))]
            ids, symbols = _strings(group["genes"]), _strings(group["gene_names"])
            kinds = np.full(len(ids), GENE_EXPRESSION)
        # 10x stores genes x spots by column, which is spots x genes by row.
        arrays = (group["data"][()].astype(np.float32), group["indices"][()], group["indptr"][()])
        barcodes, shape = _strings(group["barcodes"]), tuple(map(int, group["shape"][()][::-1]))
        _named(path, shape, barcodes, ids)
        X = checked_indices(sparse.csr_matrix(arrays, shape=shape), str(path))
        return _assemble(X, barcodes, ids, symbols, kinds), dict(file.attrs)


def _read_matrix_folder(folder: Path) -> tuple[AnnData, dict[str, Any]]:
    """Read matrix.mtx, barcodes.tsv and features.tsv, each plain or gzipped."""
    from scipy import io

    def locate(*names: str) -> Path:
        for name in (n + suffix for n in names for suffix in (".gz", "")):
            if (folder / name).is_file():
                return folder / name
        raise InputError(f"{folder} has no {names[0]}(.gz); {COPY}")

    def table(path: Path) -> pd.DataFrame:
        # Plain text: there are genes called "NA", and a quote in a name quotes nothing.
        return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)

    barcodes, features = table(locate("barcodes.tsv")), table(locate("features.tsv", "genes.tsv"))
    kinds = features[2].to_numpy(str) if features.shape[1] > 2 else np.full(len(features), GENE_EXPRESSION)
    ids, symbols = features[0].to_numpy(str), features[1].to_numpy(str)
    path, spots = locate("matrix.mtx"), barcodes[0].to_numpy(str)
    _named(path, io.mminfo(path)[1::-1], spots, ids)
    return _assemble(io.mmread(path).T.tocsr().astype(np.float32), spots, ids, symbols, kinds), {}


def _named(path: Path, shape: Sequence[int], barcodes: Strings, ids: Strings) -> None:
    """Check that a matrix is as large as it has names, before memory is taken for it."""
    if tuple(shape) != (len(barcodes), len(ids)):
        raise InputError(
            f"{path} has {shape[0]} spots of {shape[1]} genes, but {len(barcodes)} and {len(ids)} names; {COPY}"
        )


def _assemble(X: Any, barcodes: Strings, ids: Strings, symbols: Strings, kinds: Strings) -> AnnData:
    """Put counts (n_spots, n_genes) and names together, keeping gene expression only."""
    from anndata import AnnData

    genes = kinds == GENE_EXPRESSION
    if not genes.any():
        found = ", ".join(np.unique(kinds)) or "none"
        raise InputError(f"the matrix has no {GENE_EXPRESSION!r} features (it has: {found}); give one that has")
    var = pd.DataFrame({"gene_ids": ids, "feature_types": kinds}, index=pd.Index(symbols, dtype=object), dtype=object)
    adata = AnnData(X, obs=pd.DataFrame(index=pd.Index(barcodes, dtype=object)), var=var)
    if not genes.all():
        adata = adata[:, genes].copy()
    adata.X.sort_indices()
    adata.var_names_make_unique()
    return adata


def _read_positions(spatial: Path) -> pd.DataFrame:
    """Read the positions of all spots, indexed by barcode."""
    path = next((spatial / name for name in _POSITION_FILES if (spatial / name).is_file()), None)
    if path is None:
        raise InputError(f"{spatial} has no {' or '.join(_POSITION_FILES)}; {_COPY}")
    with reading(str(path), _COPY):
        if path.suffix == ".parquet":
            table = read_parquet(path)
        else:
            with path.open(encoding="utf-8-sig") as file:
                header = file.readline().lstrip('"').startswith("barcode")
            table = pd.read_csv(path, header=0 if header else None, dtype={"barcode": str, 0: str})
            if not header and table.shape[1] == len(_COLUMNS):
                table.columns = pd.Index(_COLUMNS)
        if not set(_COLUMNS) <= set(table.columns):
            raise InputError(f"{path} does not have the columns {', '.join(_COLUMNS)}; {_COPY}")
        positions: pd.DataFrame = table[_COLUMNS].set_index("barcode").apply(pd.to_numeric).astype(np.float64)
    if positions.empty or positions.isna().to_numpy().any():
        raise InputError(f"{path} is empty or has empty values; {_COPY}")
    repeated = positions.index[positions.index.duplicated()]
    if len(repeated):
        raise InputError(f"{path} lists the barcode {repeated[0]!r} more than once; {_COPY}")
    return positions


def _place(adata: AnnData, positions: pd.DataFrame, folder: Path) -> AnnData:
    """Keep the spots under tissue and give them their positions."""
    found = positions.reindex(adata.obs_names)
    known = found["in_tissue"].notna().to_numpy()
    if not known.any():
        first = " and ".join(str(names[0]) for names in (adata.obs_names, positions.index) if len(names))
        raise InputError(f"{folder}: matrix and positions share no barcode (first: {first}); take both of one sample")
    if not known.all():
        logger.warning("%s: %d spots of the matrix have no position and are left out", folder, (~known).sum())
    keep = (found["in_tissue"] == 1).to_numpy()
    if not keep.any():
        raise InputError(f"{folder}: none of {known.sum()} spots is in tissue; check in_tissue in the positions file")
    if not keep.all():
        adata, found = adata[keep].copy(), found[keep]
    for column in ("in_tissue", "array_row", "array_col"):
        adata.obs[column] = found[column].to_numpy().astype(np.int64)
    adata.obsm[SPATIAL] = found[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    return adata


def _read_scalefactors(spatial: Path) -> dict[str, Any]:
    """Read the scale factors; they serve plotting only, so an absent file is no error."""
    path = spatial / "scalefactors_json.json"
    if not path.is_file():
        logger.warning("%s is missing: plots over the tissue image will not be possible", path)
        return {}
    with reading(str(path), _COPY):
        factors = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(factors, dict):
        raise InputError(f"{path} is not a JSON object but a {type(factors).__name__}; {_COPY}")
    return factors


def _read_images(spatial: Path) -> dict[str, NDArray[np.uint8]]:
    """Read the images present, uint8 (height, width, 3); one that cannot be used is left out with a warning."""
    from PIL import Image

    # Pillow only warns of an image large enough to fill the memory; such an image is left out, too.
    problems = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
    images = {}
    for name in ("hires", "lowres"):
        path = spatial / f"tissue_{name}_image.png"
        if not path.is_file():
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    images[name] = np.array(image.convert("RGB"))
        except problems as error:
            logger.warning("%s is left out: %s", path, error)
    return images


def _strings(dataset: Any) -> Strings:
    """Return an HDF5 dataset of fixed or variable-length strings as text."""
    return np.char.decode(np.asarray(dataset[()], dtype=np.bytes_), "utf-8")


def _text(value: Any) -> str:
    """Return an HDF5 attribute as text."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
