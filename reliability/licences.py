"""The licence of every package that stMFG needs at run time, also of what those need.

``python -m reliability.licences``.
"""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

_COPYLEFT = re.compile(r"(?<![L])A?GPL|GNU (Affero )?General Public", re.IGNORECASE)
"""Licences that reach over to programs using the package; the Lesser GPL does not."""


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """Return what is installed of some packages and all they need, by name."""
    found: dict[str, Distribution] = {}
    todo = [(r.name, frozenset(r.extras)) for r in map(Requirement, requirements)]
    while todo:
        name, extras = todo.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for other systems or versions of Python
            continue
        key = package.metadata["Name"].lower().replace("_", "-")
        if key in found and not extras:
            continue
        found[key] = package
        for line in package.requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            applies = marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if applies and requirement.name.lower() not in found:
                todo.append((requirement.name, frozenset(requirement.extras)))
    return found


def licence(package: Distribution) -> str:
    """Return the licence a package declares, in a few words."""
    said = package.metadata
    if said["License-Expression"]:
        return str(said["License-Expression"])
    classified = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier") or [] if c.startswith("License ::")]
    return ", ".join(classified) or (said["License"] or "not declared").splitlines()[0][:60]


def table() -> list[tuple[str, str, str, str]]:
    """Return name, version, licence, and what brings it: stMFG itself or which extra."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    base = needed(project["dependencies"])
    rows = [(name, p.version, licence(p), "needed") for name, p in sorted(base.items())]
    for extra, requirements in project["optional-dependencies"].items():
        more = needed(requirements)
        rows += [(name, p.version, licence(p), extra) for name, p in sorted(more.items()) if name not in base]
    return rows


def copyleft(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """Return the packages under a licence that reaches over to what uses them."""
    return [f"{name} ({how})" for name, _, said, how in rows if _COPYLEFT.search(said)]


def main() -> dict[str, Any]:
    """Return the figures."""
    rows = table()
    return {
        "packages needed": sum(how == "needed" for *_, how in rows),
        "packages of extras": sum(how != "needed" for *_, how in rows),
        "copyleft": ", ".join(copyleft(rows)) or "none",
        "licence not declared": ", ".join(name for name, _, said, _ in rows if said == "not declared") or "none",
    }


if __name__ == "__main__":
    for row in table():
        print(" | ".join(row))
    print(json.dumps(main()))
