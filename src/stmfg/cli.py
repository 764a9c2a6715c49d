"""The command line: parses arguments, shows progress, turns errors into exit statuses."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from stmfg._errors import InputError, MissingDependencyError, StmfgError
from stmfg._platforms import PLATFORMS
from stmfg._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_INPUT, INTERNAL, INTERRUPTED = 2, 1, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without the usage in front."""
        raise InputError(f"{message} (see {self.prog} --help)")


def _n_domains(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'auto'") from None


def _build(**defaults: Any) -> _Parser:
    parser = _Parser(
        prog="stmfg",
        description="Find spatial domains in spatial transcriptomics data. No labels are used.",
    )
    parser.add_argument("--version", action="version", version=f"stmfg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser(
        "run",
        help="domains, figure and report from a file or folder",
        description="Read INPUT, find its spatial domains, and write result.h5ad, domains.csv, domains.png, "
        "report.html and run.json to OUTDIR.",
        epilog="example: stmfg run outs/ -o domains/ --n-domains 7",
    )
    run.add_argument(
        "input", metavar="INPUT", nargs="?", help=".h5ad, .zarr (AnnData or SpatialData) or an instrument's folder"
    )
    run.add_argument("-o", "--output", metavar="OUTDIR", required=True, help="folder for the results")
    run.add_argument(
        "--n-domains", metavar="K|auto", type=_n_domains, default="auto", help="number of domains (default: auto)"
    )
    run.add_argument("--preset", choices=("default", "paper"), default="default", help="hyperparameters")
    run.add_argument("--seed", metavar="S", type=int, default=0, help="same seed, same result (default: 0)")
    run.add_argument("--platform", choices=PLATFORMS, help="what wrote the folder (default: seen from its files)")
    run.add_argument("--use-rep", metavar="KEY", help="embedding in obsm to use instead of counts")
    run.add_argument("--library-key", metavar="KEY", help="column of obs that names the slice")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    run.add_argument("--from", metavar="RUN.json", dest="record", help="repeat a run; other options change it")
    run.add_argument("--resume", action="store_true", help="continue an interrupted run in OUTDIR")
    run.add_argument("--quiet", action="store_true", help="no progress, no summary")

    run.set_defaults(**defaults)

    demo = commands.add_parser(
        "demo",
        help="the same on a simulated cortex, no download",
        description="Simulate a layered cortex with known domains and run on it.",
    )
    demo.add_argument("-o", "--output", metavar="OUTDIR", default="demo", help="folder for the results (default: demo)")
    demo.add_argument("--seed", metavar="S", type=int, default=0, help="seed of simulation and run (default: 0)")
    demo.add_argument("--quiet", action="store_true", help="no progress, no summary")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 internal error, 2 bad input, 130 Ctrl-C."""
    # Threads that spin while they wait slow down those that work, where cores are shared; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="stmfg: %(levelname)s: %(message)s", level=logging.ERROR)
    logging.getLogger("stmfg").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # announces the processes it joins
    try:
        options = _parse(argv)
        command = {"run": _run, "demo": _demo}[options.pop("command")]
        command(options)
    except KeyboardInterrupt:
        print("stmfg: interrupted; the same command with --resume continues from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    except (InputError, MissingDependencyError) as error:
        print(f"stmfg: {error}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else "no message"
        kind = "" if isinstance(error, StmfgError) else f" ({type(error).__name__})"
        print(f"stmfg: internal error{kind}: {reason}", file=sys.stderr)
        logging.getLogger("stmfg").debug("traceback", exc_info=True)
        return INTERNAL
    return 0


def _parse(argv: Sequence[str] | None) -> dict[str, Any]:
    """Return the options, those not given taken from the record of an earlier run where one is named."""
    options = vars(_build().parse_args(argv))
    if options["command"] == "run":
        record = options.pop("record")
        if record is not None:
            from stmfg.run import repeat

            earlier = repeat(record)
            earlier |= {"input": earlier.pop("source"), "seed": earlier.pop("random_state")}
            given = vars(_build(**earlier).parse_args(argv))
            options = earlier | {key: value for key, value in given.items() if key != "record"}
        if options["input"] is None:
            raise InputError("the following arguments are required: INPUT (see stmfg run --help)")
    return options


def _run(options: dict[str, Any]) -> None:
    from stmfg.run import run

    quiet, source, output = options.pop("quiet"), options.pop("input"), options.pop("output")
    if not quiet:
        logging.getLogger("stmfg").setLevel(logging.INFO)  # what a folder was taken for, and where a run continues
    record = run(source, output, random_state=options.pop("seed"), progress=not quiet, **options)
    if not quiet and record:
        _summary(record, output)


def _demo(options: dict[str, Any]) -> None:
    from stmfg.datasets import simulate
    from stmfg.metrics import ari
    from stmfg.run import run

    adata = simulate(3000, 500, random_state=options["seed"])
    truth = adata.obs["ground_truth"].astype(str).to_numpy()
    record = run(
        adata,
        options["output"],
        n_domains=len(set(truth)),
        random_state=options["seed"],
        progress=not options["quiet"],
    )
    if not options["quiet"]:
        _summary(record, options["output"])
        print(f"agreement with the simulated truth: ARI {ari(truth, adata.obs['stmfg_domain'].astype(str)):.2f}")


def _summary(record: dict[str, Any], output: str) -> None:
    seconds = sum(stage["seconds"] for stage in record["stages"])
    print(
        f"{record['n_domains']} domains of {record['n_obs']:,} spots in {seconds:.0f} s; "
        f"open {output.rstrip('/')}/report.html"
    )


if __name__ == "__main__":
    sys.exit(main())
