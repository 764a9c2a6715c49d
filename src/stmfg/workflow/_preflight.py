"""Every path and key of a sheet, looked at before the first sample runs: a wrong last row must not cost hours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from stmfg._keys import IMAGE_FEATURES
from stmfg.errors import InputError, MissingDependencyError, flag
from stmfg.io._read import read
from stmfg.io.annotated import is_annotated
from stmfg.io.platforms import recognise
from stmfg.io.sheet import refuse
from stmfg.workflow.options import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stmfg.io.sheet import Sample

_ELEMENTS = ("obs", "obsm", "layers")


def check_samples(samples: Sequence[Sample], check: Callable[[Sample], None]) -> None:
    """Check every sample; all that is wrong with several is logged before the sheet is refused."""
    problems = []
    for sample in samples:
        try:
            check(sample)
        except (InputError, MissingDependencyError) as error:
            place = "" if sample.where in str(error) else f"{sample.where}: {sample.name}: "
            problems.append(f"{place}{error}")
    refuse(problems, f"{len(problems)} of {len(samples)} samples cannot be run, see above; nothing was started")


def check_source(path: Path, options: RunOptions) -> None:
    """Check that a path is there and of a kind that is read, and that a file has the keys that the options name.

    What only reading tells, such as counts that are none, is not checked.
    """
    keys = _read_keys(path, options.platform)
    if keys is None:
        return
    wanted = [("obs", options.library_key, "library_key"), ("layers", options.layer, "layer")]
    wanted += [("obsm", options.use_rep, "use_rep")]
    wanted += [("obsm", key, "view") for key in options.config.extra_views.values() if key != IMAGE_FEATURES]
    problems = []
    for element, key, name in wanted:
        if key is not None and key not in keys[element]:
            present = ", ".join(sorted(keys[element])[:8]) or "nothing"
            problems.append(f"no {element}[{key!r}] ({element} has: {present}); change {flag(name)}")
    if problems:
        raise InputError(f"{path} has {'; and '.join(problems)}")


def _read_keys(path: Path, platform: str | None) -> dict[str, set[str]] | None:
    """Return the names in the elements of a file of AnnData; None of a folder that an instrument wrote."""
    if platform is None and path.is_file() and is_annotated(path):
        with h5py.File(path, "r") as file:
            return {name: set(file.get(name, ())) for name in _ELEMENTS}
    if platform is None and (path / "obs").is_dir():
        return {name: {p.name for p in (path / name).glob("*")} for name in _ELEMENTS}
    match = recognise(path, platform) if path.exists() else None
    if match is None or not match.whole:
        read(path, platform=platform, images=False)  # says what is wrong; what is right but compressed is read here
    return None
