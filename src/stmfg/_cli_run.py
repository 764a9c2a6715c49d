"""``stmfg run``: from a file or folder to domains, figure and report."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from stmfg._cli_common import n_domains, print_summary
from stmfg._errors import InputError
from stmfg._keys import IMAGE_FEATURES
from stmfg._platforms import PLATFORMS

if TYPE_CHECKING:
    from stmfg._cli_common import Parser


def _view(text: str) -> str:
    """Read ``NAME=KEY``, or ``image`` for the features of the tissue image."""
    view = f"image={IMAGE_FEATURES}" if text == "image" else text
    if "=" not in view:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=KEY, a name and a key of obsm, nor 'image'")
    return view


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser. Options that are not given stay out, so that a record can stand in for them."""
    run = commands.add_parser(
        "run",
        help="domains, figure and report from a file or folder",
        description="Read INPUT, find its spatial domains, and write result.h5ad, domains.csv, domains.png, "
        "report.html and run.json to OUTDIR.",
        epilog="examples: stmfg run outs/ -o domains/ --n-domains 7; stmfg run a.h5ad b.h5ad c.h5ad -o domains/",
        argument_default=argparse.SUPPRESS,
    )
    run.add_argument(
        "input",
        metavar="INPUT",
        nargs="*",
        help=".h5ad, .zarr (AnnData or SpatialData) or an instrument's folder; several are slices, with common domains",
    )
    run.add_argument("-o", "--output", metavar="OUTDIR", required=True, help="folder for the results")
    add_options(run)
    run.add_argument("--resume", action="store_true", help="continue an interrupted run in OUTDIR")
    run.add_argument("--quiet", action="store_true", help="no progress, no summary")
    run.set_defaults(call=call)


def add_options(run: Parser) -> None:
    """Add the options that say how to analyse an input."""
    run.add_argument("--n-domains", metavar="K|auto", type=n_domains, help="number of domains (default: auto)")
    run.add_argument("--preset", choices=("default", "paper"), help="hyperparameters (default: default)")
    run.add_argument("--seed", metavar="S", type=int, help="same seed, same result (default: 0)")
    run.add_argument("--platform", choices=PLATFORMS, help="what wrote the folder (default: seen from its files)")
    run.add_argument("--use-rep", metavar="KEY", help="embedding in obsm to use instead of counts")
    run.add_argument(
        "--view",
        metavar="NAME=KEY",
        type=_view,
        action="append",
        dest="views",
        help="one more view of the spots, described by obsm[KEY]; 'image' alone is the tissue image (repeatable)",
    )
    run.add_argument("--library-key", metavar="KEY", help="column of obs that names the slice")
    run.add_argument("--stacked", action="store_true", help="slices are aligned; z, the third coordinate, joins them")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute (default: auto)")
    run.add_argument("--from", metavar="RUN.json", dest="record", help="repeat a run; other options change it")


def call(given: dict[str, Any]) -> None:
    """Run with what was given, and for the rest what the record of an earlier run says."""
    from stmfg.run import run

    quiet, output = given.pop("quiet", False), given.pop("output")
    if "input" in given:
        inputs = given.pop("input")
        given["source"] = inputs if len(inputs) > 1 else inputs[0]
    options = parameters(given)
    if "source" not in options:
        raise InputError("the following arguments are required: INPUT (see stmfg run --help)")
    if not quiet:
        logging.getLogger("stmfg").setLevel(logging.INFO)  # what a folder was taken for, and where a run continues
    found = run(options.pop("source"), output, progress=not quiet, **options)
    if not quiet and found:
        print_summary(found, output)


def parameters(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given by the names that a run has for it, with what ``--from`` adds."""
    from stmfg.config import Config
    from stmfg.run import repeat

    given = dict(given)
    if "seed" in given:
        given["random_state"] = given.pop("seed")
    if "views" in given:
        given["views"] = (*Config().views, *given["views"])
    record = given.pop("record", None)
    return ({} if record is None else repeat(record)) | given
