"""``stmfg run``: from files or folders to domains, figure and report."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from stmfg._keys import IMAGE_FEATURES
from stmfg.cli._common import Parser, add_messages, add_platform, n_domains, print_summary, take_messages
from stmfg.errors import InputError
from stmfg.workflow import _settings

if TYPE_CHECKING:
    from collections.abc import Callable

_EXAMPLES = """examples:
  stmfg run outs/ -o domains --n-domains 7             a Space Ranger folder, seven domains
  stmfg run a.h5ad b.h5ad c.h5ad -o domains            slices, with common domains
  stmfg run cells.h5ad -o domains --library-key slide  several slices in one file
  stmfg run cells.h5ad -o domains --use-rep X_scVI     an embedding in place of counts
  stmfg run cells.h5ad -o domains --config lab.toml --set epochs=50
  stmfg run --from domains -o again --seed 1           an earlier run, with another seed
"""


def _view(text: str) -> str:
    """Read ``NAME=KEY``, or ``image`` for the features of the tissue image."""
    view = f"image={IMAGE_FEATURES}" if text == "image" else text
    if "=" not in view:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=KEY, a name and a key of obsm, nor 'image'")
    return view


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "run",
        help="domains, figure and report from files or folders",
        description="Read INPUT, find its spatial domains, and write result.h5ad, domains.csv, domains.png,\n"
        "report.html and run.json to OUTDIR. stmfg info INPUT tells what would be read and done.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    _add_arguments(parser)
    parser.set_defaults(call=call)


def _add_arguments(parser: Parser) -> None:
    """Add what a line or a file can give. What is not given stays out, so that a file or record can stand in for it."""
    files = parser.add_argument_group("input and output")
    files.add_argument(
        "input",
        metavar="INPUT",
        nargs="*",
        help=".h5ad, .zarr (AnnData or SpatialData) or an instrument's folder; several, or a sheet (.csv: sample, "
        "path, donor, condition), are slices with common domains",
    )
    files.add_argument("-o", "--output", metavar="OUTDIR", help="folder for the results")
    files.add_argument("--resume", action="store_true", help="continue an interrupted run in OUTDIR")
    add_options(parser)
    add_messages(parser)


def add_options(parser: Parser) -> None:
    """Add the options that say how to analyse an input."""
    data = parser.add_argument_group("data")
    add_platform(data)
    data.add_argument("--use-rep", metavar="KEY", help="embedding in obsm to use instead of counts")
    data.add_argument(
        "--view",
        metavar="NAME=KEY",
        type=_view,
        action="append",
        dest="more_views",
        help="one more view of the spots, described by obsm[KEY]; 'image' alone is the tissue image (repeatable)",
    )
    data.add_argument("--library-key", metavar="KEY", help="column of obs that names the slice")
    data.add_argument("--stacked", action="store_true", help="slices are aligned; z, the third coordinate, joins them")

    method = parser.add_argument_group("domains")
    method.add_argument("--n-domains", metavar="K|auto", type=n_domains, help="number of domains (default: auto)")
    method.add_argument("--preset", choices=("default", "paper"), help="hyperparameters (default: default)")
    method.add_argument(
        "--set",
        metavar="NAME=VALUE",
        dest="changes",
        action="append",
        type=_settings.hyperparameter,
        help="change a hyperparameter, as named in stmfg.Config (repeatable)",
    )
    method.add_argument("--seed", metavar="S", type=int, help="same seed, same result (default: 0)")
    method.add_argument(
        "--stability",
        metavar="N",
        type=int,
        help="N further runs with other seeds tell how far the result depends on it",
    )
    method.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute (default: auto)")

    again = parser.add_argument_group("options from elsewhere (the line goes before --config, that before --from)")
    again.add_argument("--config", metavar="FILE.toml", help="options and hyperparameters, one NAME = VALUE a line")
    again.add_argument("--from", metavar="RUN.json", dest="record", help="repeat a run; other options change it")


def call(given: dict[str, Any]) -> None:
    """Run with what was given on the line, else by the file of options, else by the record of an earlier run."""
    from stmfg.workflow._run import run

    if not given.get("input"):
        given.pop("input", None)  # a file or a record may name it
    options = parameters(given, _add_arguments)
    quiet = take_messages(options)
    if "input" in options:
        inputs = options.pop("input")
        options["source"] = inputs if len(inputs) > 1 else inputs[0]
    for name, shown in (("source", "INPUT"), ("output", "-o/--output")):
        if name not in options:
            raise InputError(f"the following arguments are required: {shown} (see stmfg run --help)")
    output = options.pop("output")
    found = run(options.pop("source"), output, progress=not quiet, **options)
    if not quiet and found:
        print_summary(found, output)


def parameters(given: dict[str, Any], add_arguments: Callable[[Parser], None] = add_options) -> dict[str, Any]:
    """Return what was given by the names that a run has for it, with what ``--config`` and ``--from`` add.

    Parameters
    ----------
    given
        Options of the line.
    add_arguments
        Adds the arguments that a file of options can give.
    """
    from stmfg.config import Config
    from stmfg.workflow._run import repeat

    given = dict(given)
    given |= dict(given.pop("changes", ()))
    if "config" in given:
        reader = Parser(prog="stmfg run", argument_default=argparse.SUPPRESS)
        add_arguments(reader)
        file = _settings.read(given.pop("config"), reader)
        if {"quiet", "verbose"} & given.keys():  # one excludes the other
            file = {name: value for name, value in file.items() if name not in ("quiet", "verbose")}
        given = file | given
    if "seed" in given:
        given["random_state"] = given.pop("seed")
    if "more_views" in given:
        given["views"] = (*given.get("views", Config().views), *given.pop("more_views"))
    record = given.pop("record", None)
    return ({} if record is None else repeat(record)) | given
