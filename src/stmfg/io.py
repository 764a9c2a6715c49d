"""Reading spatial transcriptomics data into AnnData.

Everything is read with anndata, h5py, scipy and pandas: importing scanpy would load matplotlib,
and the spatialdata package is heavy for what is one AnnData table inside a zarr store.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg._blocks import BLOCK
from stmfg._errors import InputError, MissingDependencyError, StmfgError
from stmfg._keys import SPATIAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    Strings = NDArray[np.str_]

__all__ = ["read"]

logger = logging.getLogger("stmfg")

_UNDERSTOOD: Final = "an .h5ad file, a .zarr store (AnnData or SpatialData) or a Space Ranger outs folder"
_COLUMNS: Final = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
_POSITION_FILES: Final = ("tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet")
_MATRIX: Final = "filtered_feature_bc_matrix"
_COUNTS: Final = ("X", "layers/counts")
_SHARE_OF_MEMORY: Final = 0.25
_GENE_EXPRESSION: Final = "Gene Expression"
_CHECK: Final = "check that the copy is complete, or write it again with"
_COPY: Final = "copy it from Space Ranger's outs"


def read(path: str | Path, *, images: bool = True, lazy: bool | None = None) -> AnnData:
    """Read spatial transcriptomics data.

    Understood are an ``.h5ad`` file, an AnnData ``.zarr`` directory, a SpatialData ``.zarr`` directory
    with one table, and the folder Space Ranger writes (``outs`` or its parent; of Visium HD, one bin size).

    Parameters
    ----------
    path
        File or folder.
    images
        Whether to read the tissue images of a Space Ranger folder. An ``.h5ad`` file or a ``.zarr``
        store comes with what is stored in it.
    lazy
        Whether the counts of an ``.h5ad`` file or a ``.zarr`` store stay on disk, to be read in blocks of
        rows. They then are a dask array, which needs the file to stay where it is. When not given: if they
        are sparse by rows, would take more than a quarter of the machine's memory, and dask is installed.

    Returns
    -------
    Annotated data, (n_spots, n_genes). From a Space Ranger folder: spots under tissue only, "Gene
    Expression" features only, and

    ``X``
        Counts as stored, CSR float32.
    ``var_names``, ``var["gene_ids"]``, ``var["feature_types"]``
        Gene symbols made unique with the suffixes ``-1``, ``-2``, ...; gene identifiers; feature types.
    ``obs["in_tissue"]``, ``obs["array_row"]``, ``obs["array_col"]``
        Integers, as in the positions file.
    ``obsm["spatial"]``
        (x, y) = (column, row) in pixels of the full-resolution image, float64 (n_spots, 2).
    ``uns["spatial"][library_id]``
        ``"images"`` (``"hires"``, ``"lowres"``: uint8 RGB, those present), ``"scalefactors"`` and
        ``"metadata"``, as scanpy and squidpy plot them.

    Raises
    ------
    InputError
        If the path is missing, is none of these, or cannot be read.
    MissingDependencyError
        If the positions are a parquet file and pyarrow is not installed, or dask is not and ``lazy`` is asked for.
    """
    path = Path(path).expanduser()
    try:
        return _read(path, images=images, lazy=lazy)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check name and permissions") from error


def _read(path: Path, *, images: bool, lazy: bool | None) -> AnnData:
    """Find out what ``path`` is and read it."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give {_UNDERSTOOD}")
    if not path.is_dir():
        if path.suffix == ".h5ad":
            return _read_h5ad(path, lazy)
        raise InputError(f"{path} is a file of a kind stMFG does not read; give {_UNDERSTOOD}")
    holds = ", ".join(sorted(p.name for p in path.iterdir())[:5])
    if not holds:
        raise InputError(f"{path} is an empty folder; give {_UNDERSTOOD}")
    if path.suffix == ".zarr" or any((path / name).exists() for name in (".zgroup", "zarr.json")):
        return _read_zarr(path, lazy)
    for folder in (path, path / "outs"):
        if (folder / "binned_outputs").is_dir():
            bins = ", ".join(sorted(str(p) for p in (folder / "binned_outputs").iterdir() if p.is_dir()))
            raise InputError(f"{path} is a Visium HD folder; give the folder of one bin size: {bins or 'none found'}")
        if (folder / "spatial").is_dir() or _find_matrix(folder) is not None:
            return _read_space_ranger(folder, images=images)
    raise InputError(f"{path} is a folder of a kind stMFG does not read (it holds {holds}); give {_UNDERSTOOD}")


@contextmanager
def _reading(what: str, fix: str) -> Iterator[None]:
    """Turn whatever a file library raises into one line, ``what cannot be read (reason); fix``."""
    try:
        yield
    except (StmfgError, MemoryError):
        raise
    # A damaged file makes h5py, zarr, scipy, pandas, gzip and anndata raise a dozen unrelated types.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{what} cannot be read ({reason}); {fix}") from error


@contextmanager
def _quiet_names() -> Iterator[None]:
    """Silence anndata's warnings on names: the symbols are made unique here, spot names are checked on use."""
    with warnings.catch_warnings():
        known = "(Variable|Observation) names are not unique|Suffix used .* to deduplicate"
        warnings.filterwarnings("ignore", message=known, category=UserWarning)
        yield


def _read_h5ad(path: Path, lazy: bool | None) -> AnnData:
    """Read an h5ad file."""
    import anndata
    import h5py

    with _reading(f"{path} as h5ad", f"{_CHECK} adata.write_h5ad"):
        with h5py.File(path, "r") as file:
            if not {"obs", "var"} <= set(file):
                found = ", ".join(sorted(file)[:5]) or "nothing"
                raise InputError(f"{path} is HDF5 but not AnnData (it holds {found}); give {_UNDERSTOOD}")
            if not _on_disk(file, lazy):
                with _quiet_names():
                    return anndata.read_h5ad(path)
        with _quiet_names():
            return _read_lazily(h5py.File(path, "r"))  # open as long as its counts are in use


def _read_zarr(path: Path, lazy: bool | None) -> AnnData:
    """Read an AnnData zarr store, or the one table of a SpatialData store."""
    import anndata
    import zarr

    if (path / "tables").is_dir():
        tables = sorted(p for p in (path / "tables").iterdir() if p.is_dir())  # one zarr group a table
        if not tables:
            raise InputError(f"{path} is SpatialData without a table; give one with a table of expression counts")
        if len(tables) > 1:
            names = ", ".join(p.name for p in tables)
            raise InputError(f"{path} is SpatialData with several tables ({names}); give one of them, e.g. {tables[0]}")
        path = tables[0]
    if not ((path / "obs").exists() and (path / "var").exists()):
        found = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise InputError(f"{path} is zarr but not AnnData or SpatialData (it holds {found}); give {_UNDERSTOOD}")
    with _reading(f"{path} as AnnData zarr", f"{_CHECK} adata.write_zarr"), _quiet_names():
        group = zarr.open_group(path, mode="r")
        return _read_lazily(group) if _on_disk(group, lazy) else anndata.read_zarr(path)


def _on_disk(group: Any, lazy: bool | None) -> bool:
    """Whether to leave the counts of an AnnData group on disk."""
    matrices = [group[name] for name in _COUNTS if name in group]
    sparse_rows = [m for m in matrices if m.attrs.get("encoding-type") == "csr_matrix"]
    if lazy is False or (lazy is None and not sparse_rows):
        return False
    installed = importlib.util.find_spec("dask") is not None
    if lazy:
        if not sparse_rows:
            raise InputError(
                "the counts are not sparse by rows (CSR), so they cannot be read in blocks; leave out lazy"
            )
        if not installed:
            raise MissingDependencyError('reading in blocks needs dask: pip install "stmfg[disk]"')
        return True
    size = sum(int(m["data"].size) * (m["data"].dtype.itemsize + m["indices"].dtype.itemsize) for m in sparse_rows)
    large = size > _SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if large and not installed:
        logger.warning('the counts take %.1f GB of memory; with "stmfg[disk]" they would stay on disk', size / 1e9)
    return large and installed


def _read_lazily(group: Any) -> AnnData:
    """Read all but sparse counts, which become dask arrays of blocks of rows."""
    from anndata.experimental import read_dispatched, read_elem_lazy

    def element(read: Any, name: str, stored: Any, iospec: Any) -> Any:
        if name.strip("/") in _COUNTS and iospec.encoding_type == "csr_matrix":
            return read_elem_lazy(stored, chunks=(BLOCK, stored.attrs["shape"][1]))
        return read(stored)

    adata: AnnData = read_dispatched(group, element)
    return adata


def _find_matrix(folder: Path) -> Path | None:
    """Return the HDF5 file or mtx folder with the filtered counts, None where there is neither."""
    found = [p for p in (folder / f"{_MATRIX}.h5", folder / _MATRIX) if p.exists()][:1]
    # Files downloaded from 10x or GEO have the sample's name in front.
    found = found or sorted(folder.glob(f"*_{_MATRIX}.h5"))
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise InputError(f"{folder} holds several samples ({names}); make a folder for each, with its own spatial/")
    return found[0] if found else None


def _read_space_ranger(folder: Path, *, images: bool) -> AnnData:
    """Read a Space Ranger ``outs`` folder."""
    matrix = _find_matrix(folder)
    if matrix is None:
        raise InputError(f"{folder} has no {_MATRIX}.h5 and no folder {_MATRIX}; {_COPY}")
    # The small files first: what is wrong with them shows before the wait for the matrix.
    positions, scalefactors = _read_positions(folder / "spatial"), _read_scalefactors(folder / "spatial")
    with _quiet_names():
        with _reading(str(matrix), _COPY):
            adata, attrs = _read_matrix_folder(matrix) if matrix.is_dir() else _read_matrix_h5(matrix)
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
    return adata


def _read_matrix_h5(path: Path) -> tuple[AnnData, dict[str, Any]]:
    """Read a 10x HDF5 matrix, version 3 or the older layout with a group per genome."""
    import h5py
    from scipy import sparse

    with h5py.File(path, "r") as file:
        if "matrix" in file:
            group = file["matrix"]
            ids, symbols, kinds = (_strings(group["features"][k]) for k in ("id", "name", "feature_type"))
        else:
            if len(file) != 1:
                raise InputError(f"{path} holds {len(file)} genomes ({', '.join(file)}); give a matrix of one genome")
            group = file[next(iter(file))]
            ids, symbols = _strings(group["genes"]), _strings(group["gene_names"])
            kinds = np.full(len(ids), _GENE_EXPRESSION)
        # 10x stores genes x spots by column, which is spots x genes by row.
        arrays = (group["data"][()].astype(np.float32), group["indices"][()], group["indptr"][()])
        X = sparse.csr_matrix(arrays, shape=tuple(group["shape"][()][::-1]))
        return _assemble(X, _strings(group["barcodes"]), ids, symbols, kinds), dict(file.attrs)


def _read_matrix_folder(folder: Path) -> tuple[AnnData, dict[str, Any]]:
    """Read matrix.mtx, barcodes.tsv and features.tsv, each plain or gzipped."""
    from scipy import io

    def locate(*names: str) -> Path:
        for name in (n + suffix for n in names for suffix in (".gz", "")):
            if (folder / name).is_file():
                return folder / name
        raise InputError(f"{folder} has no {names[0]}(.gz); {_COPY}")

    def table(path: Path) -> pd.DataFrame:
        # Plain text: there are genes called "NA", and a quote in a name quotes nothing.
        return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)

    barcodes, features = table(locate("barcodes.tsv")), table(locate("features.tsv", "genes.tsv"))
    kinds = features[2].to_numpy(str) if features.shape[1] > 2 else np.full(len(features), _GENE_EXPRESSION)
    X = io.mmread(locate("matrix.mtx")).T.tocsr().astype(np.float32)
    ids, symbols = features[0].to_numpy(str), features[1].to_numpy(str)
    return _assemble(X, barcodes[0].to_numpy(str), ids, symbols, kinds), {}


def _assemble(X: Any, barcodes: Strings, ids: Strings, symbols: Strings, kinds: Strings) -> AnnData:
    """Put counts (n_spots, n_genes) and names together, keeping gene expression only."""
    from anndata import AnnData

    genes = kinds == _GENE_EXPRESSION
    if not genes.any():
        found = ", ".join(np.unique(kinds)) or "none"
        raise InputError(f"the matrix has no {_GENE_EXPRESSION!r} features (it has: {found}); give one that has")
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
    with _reading(str(path), _COPY):
        if path.suffix == ".parquet":
            try:
                table = pd.read_parquet(path)
            except ImportError as error:
                raise MissingDependencyError(f'{path} needs pyarrow; pip install "stmfg[parquet]"') from error
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
    with _reading(str(path), _COPY):
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
