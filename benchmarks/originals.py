"""Public data sets as their authors keep them: download, check, convert.

usage: originals.py FOLDER [--sets NAME ...] [--files TABLE.tsv]

``originals.tsv`` lists the files: address, checksum where one is published, and the page that names the address. A file
without a published checksum is trusted at its first download; its checksum is then written beside it (``FILE.sha256``)
and holds from there on. Downloads are kept in ``FOLDER/originals`` and not repeated. A download that is cut off or has
another checksum is refused and leaves nothing.

Written to FOLDER: ``NAME.h5ad`` without labels, ``NAME.truth.csv`` with them, and ``manifest.tsv`` of what is there,
for ``accuracy.py FOLDER --manifest FOLDER/manifest.tsv``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pooch
import requests

import convert
import protocol

FILES = Path(__file__).resolve().with_suffix(".tsv")


class OriginalError(Exception):
    """A data set cannot be downloaded or converted."""


@dataclass(frozen=True)
class Original:
    """How the public files of a data set become one of the benchmark; fields as in ``protocol.Source``."""

    convert: Callable[..., convert.Annotated]
    k: int
    kind: str
    platform: str
    licence: str
    origin: str
    rep: str = ""


def _dlpfc(section: str, k: int) -> Original:
    make = functools.partial(convert.dlpfc, section=section)
    origin = "human prefrontal cortex, Maynard 2021; all genes"
    return Original(make, k, "spots", "10x Visium", "not stated", origin)


def _starmap(section: str) -> Original:
    make = functools.partial(convert.starmap_cortex, section=section)
    origin = "mouse prefrontal cortex, Wang 2018; zhengli09/BASS-Analysis"
    return Original(make, 4, "cells", "STARmap", "not stated", origin)


def _merfish(section: str) -> Original:
    make = functools.partial(convert.merfish, section=section)
    origin = "mouse hypothalamus, Moffitt 2018; zhengli09/BASS-Analysis"
    return Original(make, 8, "cells", "MERFISH", "CC0 (measurements), regions not stated", origin, rep="X_pca")


ORIGINALS = {
    **{f"dlpfc_{name}_public": _dlpfc(str(name), 7) for name in range(151507, 151511)},
    **{f"dlpfc_{name}_public": _dlpfc(str(name), 5) for name in range(151669, 151673)},
    **{f"dlpfc_{name}_public": _dlpfc(str(name), 7) for name in range(151673, 151677)},
    "breast_cancer_block_a_section_1": Original(
        *(convert.breast, 20, "spots", "10x Visium", "not stated", "human breast cancer, 10x Genomics; regions of SEDR")
    ),
    "starmap_visual_cortex_BY3_1k_public": Original(
        convert.starmap_visual_cortex, 7, "cells", "STARmap", "GPL-3", "mouse visual cortex, Wang 2018; Banksy_py"
    ),
    "starmap_mpfc_BZ5_public": _starmap("20180417_BZ5_control"),
    "starmap_mpfc_BZ9_public": _starmap("20180419_BZ9_control"),
    "starmap_mpfc_BZ14_public": _starmap("20180424_BZ14_control"),
    **{f"merfish_hypothalamus_bregma{at}_public": _merfish(at) for at in ("-0.04", "-0.09", "-0.14", "-0.19", "-0.24")},
    "osmfish_somatosensory_cortex": Original(
        convert.osmfish, 11, "cells", "osmFISH", "not stated", "mouse somatosensory cortex, Codeluppi 2018"
    ),
}


def files(path: Path = FILES) -> pd.DataFrame:
    """Read the table of public files."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def fetch(name: str, address: str, sha256: str, cache: Path) -> Path:
    """Return a file of the cache; download it if it is not there."""
    path = cache / name
    note = path.with_name(f"{path.name}.sha256")
    known = sha256 or (note.read_text().strip() if note.exists() else "")
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            address,
            known_hash=f"sha256:{known}" if known else None,
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=60),
        )
    except requests.HTTPError as error:
        error.response.close()
        raise OriginalError(f"{address} answers {error.response.status_code}; is it still the address?") from error
    except (requests.RequestException, OSError) as error:
        raise OriginalError(f"the download of {address} was cut off or not possible; run this again") from error
    except ValueError as error:  # pooch's word for another checksum
        raise OriginalError(f"{address} is not the file that is expected: its checksum differs") from error
    if not sha256 and not note.exists():
        note.write_text(_digest(path) + "\n")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make(name: str, original: Original, table: pd.DataFrame, folder: Path) -> protocol.Source:
    """Download and convert one data set, and return its row of the manifest."""
    rows = table[table["set"] == name].itertuples()
    parts = {row.part: fetch(row.file, row.address, row.sha256, folder / "originals") for row in rows}
    try:
        adata, truth = original.convert(**parts)
    except Exception as error:  # each library has its own for a file that is not what its name says
        found = ", ".join(path.name for path in parts.values())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise OriginalError(f"{name} is not of the form expected ({reason}); look at {found}") from error
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # both files appear, or none
        truth.dropna().to_csv(Path(scratch, "truth.csv"))
        adata.write_h5ad(Path(scratch, "data.h5ad"))
        Path(scratch, "truth.csv").replace(folder / f"{name}.truth.csv")
        Path(scratch, "data.h5ad").replace(folder / f"{name}.h5ad")
    kept = {field.name: getattr(original, field.name) for field in dataclasses.fields(original)}
    del kept["convert"]
    digest = _digest(folder / f"{name}.h5ad")
    return protocol.Source(name=name, file=f"{name}.h5ad", sha256=digest, truth=f"{name}.truth.csv", **kept)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="*", choices=ORIGINALS, default=list(ORIGINALS), metavar="NAME")
    parser.add_argument("--files", type=Path, default=FILES, help="another table of files, such as of a mirror")
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    manifest = args.folder / protocol.MANIFEST.name
    sources = {s.name: s for s in protocol.manifest(manifest)} if manifest.exists() else {}
    failed = 0
    for name in args.sets:
        if name in sources and (args.folder / sources[name].file).exists():
            continue
        try:
            sources[name] = make(name, ORIGINALS[name], files(args.files), args.folder)
        except OriginalError as error:
            print(error, file=sys.stderr)
            failed += 1
        else:
            protocol.write_manifest(list(sources.values()), manifest)
            print(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
