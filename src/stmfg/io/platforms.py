"""What the files of each platform are called: one table, used to recognise a folder and by its reader.

Nothing is opened here and nothing heavy is imported, so that the command line can name the platforms at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

from stmfg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_SEPARATORS: Final = "[._ -]"
_AGGREGATED: Final = ("aggr_tissue_positions.csv", "aggr_tissue_positions_list.csv")
_OTHERS: Final = (*_AGGREGATED, "digital_expression_summary.txt")
"""Files whose names look like another of the table with the name of a sample."""


@dataclass(frozen=True)
class Part:
    """A file, or folder, that a platform writes.

    People and archives put the name of the sample before or behind the name of a file (``GSM1_cells.csv``,
    ``cell_by_gene_S1R1.csv``) and compress it, so every name is found in these forms, too.
    """

    names: tuple[str, ...]
    """Best first; ``*`` stands for the name of the sample, ``?`` for one character; folders have no ending."""
    folders: tuple[str, ...] = ()  # it may lie in besides the one given
    needed: bool = True  # there is nothing to read without it
    telling: bool = True  # its name alone says which platform it is of


@dataclass(frozen=True)
class Layout:
    """A form of the folder of a platform."""

    reader: str
    platform: str
    title: str  # what people call it
    parts: dict[str, Part]  # its files by what they hold; the first tells samples apart


_GEF: Final = ("adjusted.cellbin.gef", "cellbin.gef", "tissue.gef", "*.gef", "raw.gef")  # cells, tissue, whole chip
_GEM: Final = (
    *("adjusted.cellbin.gem", "cellbin.gem", "GEM_CellBin.tsv", "tissue.gem"),
    *("*.gem", "GEM_bin1.tsv", "gem.tsv", "gem.csv"),
)
_IMAGES: Final = {
    f"{size} image": Part(
        tuple(f"tissue_{size}_image.{end}" for end in ("png", "jpg", "jpeg")), ("spatial",), needed=False, telling=False
    )
    for size in ("hires", "lowres")
}
_SCALE: Final = {"scale factors": Part(("scalefactors_json.json",), ("spatial",), needed=False, telling=False)}
_FILTERED: Final = ("filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix")
_RAW: Final = ("raw_feature_bc_matrix.h5", "raw_feature_bc_matrix")
_CELLS: Final = ("filtered_feature_cell_matrix.h5", "filtered_feature_cell_matrix")

_PARTS: Final = {  # by reader, platform, and what people call it
    ("visium", "visium", "Visium"): {
        "counts": Part((*_FILTERED, "matrix.mtx", *_RAW)),
        "positions": Part(
            ("tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet"), ("spatial",)
        ),
        **_SCALE,
        **_IMAGES,
    },
    ("aggregated", "visium", "Visium, several capture areas"): {
        "counts": Part((*_FILTERED, "matrix.mtx"), telling=False),
        "positions": Part(_AGGREGATED, ("spatial",)),
        "samples": Part(("aggregation.csv", "aggregation_csv.csv"), needed=False),
    },
    ("bins", "visiumhd", "Visium HD"): {
        "bins": Part(("binned_outputs", "square_016um", "square_008um", "square_???um")),
        "cells": Part(("segmented_outputs",), needed=False),
    },
    ("cell folder", "visiumhd", "Visium HD"): {"cells": Part(("segmented_outputs",))},
    ("cells", "visiumhd", "Visium HD"): {
        "counts": Part((*_CELLS, "matrix.mtx", *(name.replace("filtered", "raw") for name in _CELLS))),
        "outlines": Part(("cell_segmentations.geojson", "graphclust_annotated_cell_segmentations.geojson")),
        **_SCALE,
        **_IMAGES,
    },
    ("xenium", "xenium", "Xenium"): {
        "counts": Part(("cell_feature_matrix.h5", "cell_feature_matrix", "matrix.mtx")),
        "cells": Part(("cells.parquet", "cells.csv"), telling=False),
        "experiment": Part(("experiment.xenium",), needed=False),
    },
    ("merscope", "merscope", "MERSCOPE"): {
        "counts": Part(("cell_by_gene.csv",)),
        "cells": Part(("cell_metadata.csv", "cell_metadata.parquet")),
    },
    ("cosmx", "cosmx", "CosMx"): {
        "counts": Part(("exprMat_file.csv",)),
        "cells": Part(("metadata_file.csv", "metadata_file.parquet")),
    },
    ("slideseq", "slideseq", "Slide-seq"): {
        "counts": Part(
            (
                *("MappedDGEForR.csv", "matched.digital_expression_matrix.mtx", "matched.digital_expression.txt"),
                *("digital_expression.txt", "MoleculesPerMatchedBead.mtx"),
            )
        ),
        "beads": Part(
            (
                *("BeadLocationsForR.csv", "bead_locations.csv", "MatchedBeadLocation.csv"),
                *("barcode_xy.txt", "barcode_matching.txt"),
            ),
            ("barcode_matching",),
        ),
    },
    ("stereoseq", "stereoseq", "Stereo-seq"): {
        # The folders of SAW from version 8 on and of its predecessors.
        "counts": Part((*_GEF, *_GEM), ("feature_expression", "cellcut", "tissuecut"))
    },
}
LAYOUTS: Final = tuple(Layout(*about, parts) for about, parts in _PARTS.items())
PLATFORMS: Final = tuple(dict.fromkeys(layout.platform for layout in LAYOUTS))
"""Names of the platforms, in the order in which they are looked for."""


def title(platform: str) -> str:
    """Return what people call a platform."""
    return {layout.platform: layout.title for layout in reversed(LAYOUTS)}.get(platform, platform)


@dataclass(frozen=True)
class File:
    """A file of a platform: where it is, which name of the table it has, and what stands before and behind that."""

    path: Path
    name: str
    sample: str


@dataclass(frozen=True)
class Match:
    """What a folder was taken for."""

    layout: Layout
    folder: Path
    files: dict[str, list[File]]  # of one sample by what they hold, the best first
    samples: list[File]  # the first file of every sample in the folder
    others: tuple[str, ...] = ()  # platforms that this folder could be of, too

    @property
    def whole(self) -> bool:
        """Whether everything that is needed is there."""
        return all(name in self.files for name, part in self.layout.parts.items() if part.needed)

    @property
    def telling(self) -> bool:
        """Whether a name among the files is that of no other platform."""
        parts = self.layout.parts
        return any(
            parts[name].telling or (parts[name].needed and not files[0].sample) for name, files in self.files.items()
        )

    @property
    def because(self) -> str:
        """The files that decided, as text."""
        decided = [
            self.files[name][0].path for name, part in self.layout.parts.items() if part.needed and name in self.files
        ]
        return " and ".join(path.relative_to(self.folder).as_posix() for path in decided) or "platform"

    def path(self, part: str) -> Path | None:
        """Return the path of a file that can be missing."""
        return self.files[part][0].path if part in self.files else None

    def need(self, part: str) -> File:
        """Return the file with a part of the data, or say what it is called."""
        if part in self.files:
            return self.files[part][0]
        row = self.layout.parts[part]
        names = " or ".join(name + (".gz" if "." in name else "/") for name in row.names)
        where = "".join(f" or {name}/" for name in row.folders)
        sample = f" of the sample {next(iter(self.files.values()))[0].sample!r}" if len(self.samples) > 1 else ""
        raise InputError(
            f"{self.folder}{where} has no {names.replace('.gz', '(.gz)')}{sample}; "
            f"add it from the output of {self.layout.title}"
        )


def recognise(path: Path, platform: str | None = None) -> Match | None:
    """Return what a folder is, or the folder that a file is in; None where nothing is known of it.

    The folder and ``outs`` in it are searched. A folder with everything that is needed goes before one with a part of
    it, which its reader then says is incomplete. Of several samples the path must be a file of one.
    """
    if platform is not None and platform not in PLATFORMS:
        raise InputError(f"{platform!r} is no platform; choose one of {', '.join(PLATFORMS)}")
    rows = [layout for layout in LAYOUTS if platform in (None, layout.platform)]
    parts = [part for layout in rows for part in layout.parts.values()]
    chosen = path if path.is_file() else None
    if chosen is not None:
        inside = any(_sample(path.parent.name, name) is not None for part in parts for name in part.folders)
        path = path.parents[1] if inside else path.parent
    elif any(_sample(path.name, name) is not None for part in parts for name in part.folders):
        # The folder of a part of the files.
        path = path if any(match.whole for match in _matches(rows, (path,), None)) else path.parent
    matches = _matches(rows, (path, path / "outs"), chosen)
    folders = {name for part in parts for name in part.names if "." not in name}
    if not any(match.whole for match in matches) and any(_sample(path.name, name) is not None for name in folders):
        chosen = chosen or path  # a matrix that is a folder
        matches = _matches(rows, (path.parent,), chosen) or matches
    whole = [match for match in matches if match.whole]
    first = next(iter(whole or [match for match in matches if match.telling]), None)
    if first is None:
        return matches[0] if platform is not None and matches and chosen is None else None
    if len(first.samples) > 1 and chosen is None:
        names = ", ".join(sorted(file.path.relative_to(first.folder).as_posix() for file in first.samples))
        one = first.need(next(iter(first.layout.parts))).path
        raise InputError(f"{first.folder} holds several samples ({names}); give the file of one, such as {one}")
    others = {match.layout.platform for match in whole} - {first.layout.platform}
    return replace(first, others=tuple(sorted(others)))


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, without what is hidden, such as the doubles that some systems make of every file."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _matches(rows: list[Layout], folders: tuple[Path, ...], chosen: Path | None) -> list[Match]:
    matches = []
    for folder in folders:
        if folder.is_dir():
            inside = entries(folder)
            matches += [_match(layout, folder, inside, chosen) for layout in rows]
    return matches


def _match(layout: Layout, folder: Path, inside: list[Path], chosen: Path | None) -> Match:
    """Collect the files of a sample: the one that a file is of, the only one, or the first that has all of them."""
    files_of = {name: _search(inside, part) for name, part in layout.parts.items()}
    samples = list({file.sample: file for file in reversed(next(iter(files_of.values())))}.values())[::-1]
    wanted = [file.sample for file in samples] or [""]
    if chosen is not None:
        wanted = [file.sample for files in files_of.values() for file in files if file.path == chosen]
        files_of = {name: [file for file in files if file.path == chosen] or files for name, files in files_of.items()}
    matches = []
    for sample in wanted:
        files = {}
        for name, candidates in files_of.items():
            fitting = [file for file in candidates if file.sample == sample]
            if not fitting and len(samples) < 2:
                # A sample alone in its folder may have its name on some of the files only.
                names = {file.sample for file in candidates}
                fitting = [file for file in candidates if not file.sample or len(names) == 1]
            if fitting:
                files[name] = fitting
        matches.append(Match(layout, folder, files, samples))
    return max(matches, key=lambda match: match.whole, default=Match(layout, folder, {}, []))


def _search(inside: list[Path], part: Part) -> list[File]:
    """Return all files that could be a part, those with the best name first."""
    places = [(inside, "")]
    for entry in inside:
        samples = [s for name in part.folders if (s := _sample(entry.name, name)) is not None]
        if samples and entry.is_dir():
            places.append((entries(entry), samples[0]))
    files = []
    for paths, of in places:
        for path in paths:
            # The longest name first: tissue_positions_list.csv is not tissue_positions.csv of a sample called "list".
            for name in sorted((*part.names, *_OTHERS), key=len, reverse=True):
                sample = _sample(path.name, name)
                if sample is not None and path.is_dir() == ("." not in name):
                    if name in part.names:
                        files.append(File(path, name, sample or of))
                    break
    # What is called after no name of the table is of the sample whose name it begins with: C04.merge.gef of C04.
    known = {file.sample for file in files if not file.name.startswith("*")}
    files = [
        replace(file, sample=next((s for s in known if file.sample.startswith(f"{s}.")), file.sample))
        if file.name.startswith("*")
        else file
        for file in files
    ]
    return sorted(files, key=lambda file: part.names.index(file.name))


@cache
def _pattern(name: str) -> re.Pattern[str]:
    stem, dot, end = name.rpartition(".") if "." in name else (name, "", "")
    stem = re.escape(stem).replace(r"\?", ".")
    end = {"csv": "(?:csv|tsv|txt)", "txt": "(?:txt|csv)"}.get(end, re.escape(end))  # what parts cells is looked at
    ending = rf"\.{end}(?:\.gz)?" if dot else ""
    return re.compile(rf"(?:(.+?){_SEPARATORS})?{stem}(?:{_SEPARATORS}(.+?))?{ending}", re.IGNORECASE)


def _sample(file: str, name: str) -> str | None:
    """Return what is in the name of a file besides a name of the table; None if it is another file."""
    if name.startswith("*"):
        stem = file.removesuffix(".gz").removesuffix(name[1:])
        return stem if stem != file.removesuffix(".gz") else None
    match = _pattern(name).fullmatch(file)
    return None if match is None else "_".join(filter(None, match.groups()))
