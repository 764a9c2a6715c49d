"""Which instrument wrote a folder: the files that tell, in one table.

Nothing is opened here and nothing heavy is imported, so that the command line can name the choices at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stmfg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MATRIX: Final = "filtered_feature_bc_matrix"
"""Name of Space Ranger's matrix, as a folder or with .h5 behind it."""


@dataclass(frozen=True)
class Platform:
    """A kind of folder.

    Attributes
    ----------
    name
        What `platform` calls it.
    title
        What people call it.
    markers
        Groups of patterns of files; a whole folder has one of each group.
    """

    name: str
    title: str
    markers: tuple[tuple[str, ...], ...]

    def found(self, folder: Path) -> list[str]:
        """Return the name of the first file found of each group, relative to the folder."""
        names = []
        for group in self.markers:
            first = next((p for pattern in group for p in sorted(folder.glob(pattern))), None)
            if first is not None:
                names.append(first.relative_to(folder).as_posix())
        return names


def _csv(*names: str) -> tuple[str, ...]:
    """Return the names with the ends that a table comes with."""
    return tuple(f"{name}.csv{end}" for name in names for end in ("", ".gz"))


_TABLE: Final = (
    Platform("visium", "Visium", ((f"{MATRIX}.h5", MATRIX, f"*_{MATRIX}.h5"), ("spatial",))),
    Platform("visiumhd", "Visium HD", (("binned_outputs", "square_*um"),)),
    Platform(
        "xenium",
        "Xenium",
        (("cell_feature_matrix.h5", "cell_feature_matrix"), ("cells.parquet", *_csv("cells"))),
    ),
    Platform("merscope", "MERSCOPE", (_csv("cell_by_gene"), _csv("cell_metadata"))),
    Platform("cosmx", "CosMx", (_csv("*_exprMat_file"), _csv("*_metadata_file"))),
    Platform(
        "slideseq",
        "Slide-seq",
        (
            (*_csv("*MappedDGEForR"), "*.digital_expression.txt", "*.digital_expression.txt.gz"),
            _csv("*BeadLocationsForR", "*_bead_locations"),
        ),
    ),
    Platform(
        "stereoseq",
        "Stereo-seq",
        # The folders of SAW from version 8 on and of its predecessors.
        (("*.gef", "feature_expression/*.gef", "*cellcut/*.gef", "*tissuecut/*.gef", "*.gem", "*.gem.gz"),),
    ),
)
PLATFORMS: Final = tuple(platform.name for platform in _TABLE)
"""Names of the kinds of folders, in the order in which they are looked for."""


def title(name: str) -> str:
    """Return what people call a platform."""
    return next((platform.title for platform in _TABLE if platform.name == name), name)


@dataclass(frozen=True)
class Match:
    """What a folder was taken for.

    Attributes
    ----------
    platform
        Row of the table.
    folder
        Where its files are.
    because
        The files that decided.
    others
        Other kinds of folders that this one could be.
    """

    platform: Platform
    folder: Path
    because: list[str]
    others: list[str]


def recognise(path: Path, name: str | None = None) -> Match | None:
    """Return what a folder is, None where nothing is known of it.

    The folder and ``outs`` in it are looked at. A folder with everything a platform writes goes before one with a part
    of it, which its reader then says is incomplete.

    Parameters
    ----------
    path
        Folder.
    name
        Name of the platform, where it is not to be guessed.

    Raises
    ------
    InputError
        If there is no platform of that name.
    """
    if name is not None and name not in PLATFORMS:
        raise InputError(f"{name!r} is no platform; choose one of {', '.join(PLATFORMS)}")
    folders = [folder for folder in (path, path / "outs") if folder.is_dir()]
    rows = [platform for platform in _TABLE if name in (None, platform.name)]
    seen = [(platform, folder, platform.found(folder)) for folder in folders for platform in rows]
    whole = [each for each in seen if len(each[2]) == len(each[0].markers)]
    matches = whole or [each for each in seen if each[2]]
    if not matches:
        return Match(rows[0], path, [], []) if name is not None else None
    platform, folder, because = matches[0]
    others = sorted({each[0].name for each in whole} - {platform.name})
    return Match(platform, folder, because, others)
