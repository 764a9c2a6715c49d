"""``stmfg batch``: every sample of a sheet, and one page over all."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from stmfg.cli._common import add_messages, take_messages
from stmfg.cli._run import add_options, parameters
from stmfg.errors import InputError, StmfgError

if TYPE_CHECKING:
    from stmfg.cli._common import Parser


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser. Options that are not given stay out, as those of ``run``."""
    batch = commands.add_parser(
        "batch",
        help="every sample of a sheet by itself, and one page over all",
        description="Run every sample of SHEET by itself into OUTDIR/SAMPLE, and write index.html and summary.csv. "
        "Samples that are finished are not run again, interrupted ones continue, failed ones leave the others alone.",
        epilog="example: stmfg batch samples.csv -o results/ --jobs 4",
        argument_default=argparse.SUPPRESS,
    )
    batch.add_argument(
        "sheet",
        metavar="SHEET",
        help="CSV with the columns sample, path; also donor, condition, and options of its own",
    )
    batch.add_argument("-o", "--output", metavar="OUTDIR", required=True, help="folder for the results")
    batch.add_argument("--jobs", metavar="N", type=int, help="samples at a time (default: 1; with Slurm all)")
    batch.add_argument(
        "--slurm",
        metavar="KEY=VALUE",
        nargs="*",
        type=setting,
        help="run as Slurm jobs: partition=... time=... mem=...",
    )
    add_options(batch)
    add_messages(batch)
    batch.set_defaults(call=call)


def setting(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as in partition=long")
    return key, value


def call(given: dict[str, Any]) -> None:
    """Run the batch; samples that failed make the exit status that of their reason."""
    from stmfg.workflow._batch import batch

    quiet, sheet, output = take_messages(given), given.pop("sheet"), given.pop("output")
    if "slurm" in given:
        given["slurm"] = dict(given["slurm"])
    options = parameters(given)
    options.pop("source", None)  # of the record
    try:
        summary, failures = batch(sheet, output, progress=not quiet, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues where it stopped") from None
    page = f"{output.rstrip('/')}/index.html"
    if failures:
        names = ", ".join(list(failures)[:5]) + (", ..." if len(failures) > 5 else "")
        line = f"{len(failures)} of {len(summary)} samples failed ({names}); {page} says why"
        raise (InputError if all(failure.bad_input for failure in failures.values()) else StmfgError)(line)
    if not quiet:
        print(f"{len(summary)} samples, {summary['n_obs'].sum():,} spots; open {page}")
