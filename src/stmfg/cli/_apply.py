"""``stmfg apply``: the domains of an earlier run in a new slice, without training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from stmfg.cli._common import add_messages, add_platform, print_summary, take_messages

if TYPE_CHECKING:
    from stmfg.cli._common import Parser


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser. Options that are not given stay out: their defaults are those of the function."""
    apply = commands.add_parser(
        "apply",
        help="domains of an earlier run in a new slice, without training",
        description="Find the domains of MODEL in the slice NEW without training, and write the same five files as "
        "run. Says so where NEW is unlike the tissue the model was trained on.",
        epilog="example: stmfg apply domains/ other_outs/ -o other_domains/",
        argument_default=argparse.SUPPRESS,
    )
    apply.add_argument("reference", metavar="MODEL", help="folder of an earlier run, its result.h5ad, or a saved model")
    apply.add_argument("source", metavar="NEW", help=".h5ad, .zarr or an instrument's folder, as for run")
    apply.add_argument("-o", "--output", metavar="OUTDIR", required=True, help="folder for the results")
    add_platform(apply)
    apply.add_argument("--library-key", metavar="KEY", help="column of obs that names the slice")
    apply.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute (default: auto)")
    add_messages(apply)
    apply.set_defaults(call=call)


def call(given: dict[str, Any]) -> None:
    """Apply the model and say what was found."""
    from stmfg.workflow._apply import run_apply

    quiet, output = take_messages(given), given.pop("output")
    record = run_apply(given.pop("reference"), given.pop("source"), output, **given)
    if not quiet:
        print_summary(record, output)
