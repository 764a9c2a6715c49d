"""Pages of HTML that need no other file, and how they get onto the disk."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stmfg._core.files import replacing


def fill_template(name: str, scripts: Sequence[str], **content: Any) -> str:
    """Return a page. Names in it come from strangers: all are escaped, and no script but the page's own can run."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stmfg.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("stmfg.report").joinpath("templates")
    # Modules for editors, linters and tests; in the page, one script after the other.
    script = "\n".join(
        re.sub(r"^import\b[^;]*;\n|^export (?=\w)", "", folder.joinpath(name).read_text("utf-8"), flags=re.MULTILINE)
        for name in scripts
    )
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    # Our own script is the one piece of the page that is not escaped.
    return environment.get_template(name).render(**content, script=Markup(script), script_digest=digest)  # noqa: S704


def write_text(path: Path, text: str) -> None:
    """Put a text in the place of an earlier one, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(text.encode("utf-8", errors="xmlcharrefreplace"))
