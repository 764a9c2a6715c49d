"""``stmfg export``: domains for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmfg._keys import DOMAIN
from stmfg.errors import InputError

if TYPE_CHECKING:
    import argparse

    from stmfg.cli._common import Parser

TARGETS: Final = ("loupe", "xenium-explorer", "spatialdata")


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser."""
    export = commands.add_parser(
        "export",
        help="domains for Loupe Browser, Xenium Explorer or SpatialData",
        description="Write the domains of a run in the form that another program imports.",
        epilog="example: stmfg export domains/ --to loupe -o loupe.csv",
    )
    export.add_argument("result", metavar="RESULT", help="folder of a run, or its result.h5ad")
    export.add_argument("--to", choices=TARGETS, required=True, help="the program")
    export.add_argument("-o", "--output", metavar="FILE", required=True, help=".csv, or a new .zarr for spatialdata")
    export.add_argument(
        "--key", metavar="COLUMN", default=DOMAIN, help="column of obs to export (default: %(default)s)"
    )
    export.add_argument("--source", metavar="X.zarr", help="spatialdata: store whose table shall have the domains")
    export.add_argument("--table", metavar="NAME", help="spatialdata: that table, where there are several")
    export.add_argument("--library-key", metavar="COLUMN", help="spatialdata, no --source: column that names the slice")
    export.add_argument(
        "--slice", metavar="NAME", dest="slice_name", help="which slice, where several were run jointly"
    )
    export.set_defaults(call=call)


def call(options: dict[str, Any]) -> None:
    """Read the result, write the file, and say what is in it."""
    from stmfg import export
    from stmfg.io._read import read

    target, output, key = options["to"], options["output"], options["key"]
    more = {name: options[name] for name in ("source", "table", "library_key") if options[name] is not None}
    if more and target != "spatialdata":
        raise InputError(f"--{next(iter(more)).replace('_', '-')} goes with --to spatialdata; leave it out")
    result = Path(options["result"]).expanduser()
    adata = read(result / "result.h5ad" if (result / "result.h5ad").is_file() else result)
    getattr(export, target.replace("-", "_"))(adata, output, key=key, slice_name=options["slice_name"], **more)
    print(f"{key} of {options['result']} for {target}: {output}")
