"""The commands: what each takes, and what it prints."""

from __future__ import annotations

import logging
from typing import Any, Final

from stmfg._core.timing import loading
from stmfg._keys import DOMAIN
from stmfg.cli._parser import Argument, Command, build_parser
from stmfg.errors import InputError, StmfgError
from stmfg.workflow.options import parse_hyperparameter, read_file, read_record


def _run(given: dict[str, Any]) -> None:
    with loading():
        from stmfg.workflow import run

    options = _with_file_and_record(given, "run")
    show, source, output = _show(options), options.pop("source", None), options.pop("output", None)
    for value, name in ((source, "INPUT"), (output, "-o/--output")):
        if not value:
            raise InputError(f"the following arguments are required: {name} (see stmfg run --help)")
    source = source[0] if not isinstance(source, str) and len(source) == 1 else source
    record = run(source, output, progress=show, **options)
    if show:
        _print_summary(record, output)


def _with_file_and_record(given: dict[str, Any], command: str) -> dict[str, Any]:
    """Return options of the shell, else of the file of ``--config``, else of the record of ``--from``."""
    options = dict(given)
    options |= dict(parse_hyperparameter(text) for text in options.pop("set", ()))
    file = read_file(options.pop("config"), command) if "config" in options else {}
    if {"quiet", "verbose"} & options.keys():  # one excludes the other
        file = {name: value for name, value in file.items() if name not in ("quiet", "verbose")}
    record = read_record(options.pop("record")) if "record" in options else {}
    return record | file | options


def _info(given: dict[str, Any]) -> None:
    with loading():
        from stmfg.workflow import inspect_input

    _show({"quiet": "verbose" not in given, **given})  # what is read is in what is printed
    inspection = inspect_input(given["input"], platform=given.get("platform"))
    print("\n".join(inspection.lines()))
    if inspection.problems:
        raise InputError(f"{given['input']} cannot be run on as it is; the problems are listed above")


def _apply(given: dict[str, Any]) -> None:
    with loading():
        from stmfg.workflow import run_apply

    show, output = _show(given), given.pop("output")
    record = run_apply(given.pop("reference"), given.pop("input"), output, progress=show, **given)
    if show:
        _print_summary(record, output)


def _batch(given: dict[str, Any]) -> None:
    with loading():
        from stmfg.workflow import batch

    options = _with_file_and_record(given, "batch")
    show, sheet, output = _show(options), options.pop("sheet"), options.pop("output")
    for name in ("source", "title"):  # of the record
        options.pop(name, None)
    if "slurm" in options:
        options["slurm"] = dict(map(_slurm_setting, options["slurm"]))
    try:
        summary, failures = batch(sheet, output, progress=show, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command continues where it stopped") from None
    page = f"{output.rstrip('/')}/index.html"
    if failures:
        names = ", ".join(list(failures)[:5]) + (", ..." if len(failures) > 5 else "")
        message = f"{len(failures)} of {len(summary)} samples failed ({names}); {page} says why"
        raise (InputError if all(failure.bad_input for failure in failures.values()) else StmfgError)(message)
    if show:
        print(f"{len(summary)} samples, {summary['n_obs'].sum():,} spots; open {page}")


def _slurm_setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise InputError(f"--slurm: {text!r} is not KEY=VALUE, as in partition=long")
    return key, value


def _export(given: dict[str, Any]) -> None:
    with loading():
        from stmfg import export
        from stmfg.io._read import read
        from stmfg.workflow._earlier import find_result

    show, target, output = _show(given), given.pop("to"), given.pop("output")
    result = given.pop("result")
    for name in ("source", "table", "library_key"):
        if name in given and target != "spatialdata":
            raise InputError(f"--{name.replace('_', '-')} goes with --to spatialdata; leave it out")
    adata = read(find_result(result))
    getattr(export, target.replace("-", "_"))(adata, output, **given)
    if show:
        print(f"wrote {output}: {given.get('key', DOMAIN)} of {result} for {target}")


def _report(given: dict[str, Any]) -> None:
    with loading():
        from stmfg.workflow import write_report

    show, genes = _show(given), given.pop("genes", "all")
    genes = genes if genes in ("all", "markers") else genes.split(",")
    path = write_report(given.pop("result"), given.pop("output", None), genes=genes, **given)
    if show:
        print(f"open {path}")


def _compare(given: dict[str, Any]) -> None:
    with loading():
        from stmfg.workflow import compare_results

    show, output = _show(given), given.get("output")
    comparison = compare_results(given["one"], given["other"], output)
    agreement = f"{comparison.agreement:.0%} of the spots agree once names are matched"
    print(f"A is {given['one']}, B is {given['other']}")
    print(f"{comparison.n:,} spots in both (A has {comparison.n_one:,}, B has {comparison.n_other:,})")
    print(f"ARI {comparison.ari:.3f}, NMI {comparison.nmi:.3f}; {agreement}")
    if not show:
        return
    print(f"{'A':<20} {'B':<20} {'in A':>9} {'in B':>9} {'in both':>9}  what became of it")
    for name, row in comparison.domains.iterrows():
        counts = " ".join(f"{row[column]:>9,}" for column in ("n", "n_match", "n_both"))
        print(f"{name!s:<20} {row['match'] or '-':<20} {counts}  {row['what']}")
    if not comparison.spots["same"].all():
        print(comparison.sentences[-1] + (f"; see {output}" if output else "; -o FOLDER says and draws where"))


def _demo(given: dict[str, Any]) -> None:
    with loading():
        from stmfg.datasets import simulate
        from stmfg.metrics import ari
        from stmfg.workflow import run

    show, output, seed = _show(given), given["output"], given.get("random_state", 0)
    adata = simulate(3000, 500, random_state=seed)
    truth = adata.obs["ground_truth"].astype(str).to_numpy()
    overwrite = given.get("overwrite", False)
    record = run(adata, output, n_domains=len(set(truth)), random_state=seed, overwrite=overwrite, progress=show)
    if show:
        _print_summary(record, output)
        print(f"agreement with the simulated truth: ARI {ari(truth, adata.obs['stmfg_domain'].astype(str)):.2f}")


def _completion(given: dict[str, Any]) -> None:
    import shtab

    print(shtab.complete(build_parser(COMMANDS, shtab.FILE), shell=given["shell"]))


def _show(options: dict[str, Any]) -> bool:
    """Take ``quiet`` and ``verbose`` out of the options, set the log to them, and return whether to show progress."""
    quiet, verbose = options.pop("quiet", False), options.pop("verbose", False)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("stmfg").setLevel(level)
    return not quiet


def _print_summary(record: dict[str, Any], output: str) -> None:
    seconds = sum(stage["seconds"] for stage in record["stages"])
    page = f"{output.rstrip('/')}/report.html"
    print(f"{record['n_domains']} domains of {record['n_obs']:,} spots in {seconds:.0f} s; open {page}")
    for sentence in [*record["summary"], *record.get("comparison", ())]:
        print(sentence)
    if n := len(record["warnings"]):
        several = f"{n} warnings are in the report; read them first"
        print(several if n > 1 else "1 warning is in the report; read it first")
    if record.get("stability"):
        from stmfg.report import describe_stability

        print(describe_stability(record["stability"]))


def _argument(flags: str, metavar: str | None, meaning: str, **settings: Any) -> Argument:
    return Argument(tuple(flags.split()), meaning, settings={"metavar": metavar} | settings)


def _path(flags: str, metavar: str, meaning: str, **settings: Any) -> Argument:
    return Argument(tuple(flags.split()), meaning, is_path=True, settings={"metavar": metavar} | settings)


_KINDS: Final = ".h5ad, .zarr (AnnData or SpatialData) or an instrument's folder"
_SEVERAL: Final = "several, or a sheet (.csv: sample, path, donor, condition), are slices with common domains"
_OUTPUT: Final = _path("-o --output", "OUTDIR", "folder for the results", required=True)
_RESULT: Final = _path("result", "RESULT", "folder of a run, or its result.h5ad")
_FROM_ELSEWHERE: Final = (
    _path("--config", "FILE.toml", "options and hyperparameters, one NAME = VALUE a line; the shell goes before it"),
    _path("--from", "RUN.json", "repeat a run; the shell and --config go before it", dest="record"),
    _argument("--set", "NAME=VALUE", "change a hyperparameter of stmfg.Config (repeatable)", action="append"),
)
_PROGRAMS: Final = ("loupe", "xenium-explorer", "spatialdata")
_SHELLS: Final = ("bash", "zsh", "fish")

COMMANDS: Final = (
    Command(
        "run",
        _run,
        "domains, figure and report from files or folders",
        "Read INPUT, find its spatial domains, and write result.h5ad, domains.csv, markers.csv, domains.png,\n"
        "report.html and run.json to OUTDIR. stmfg info INPUT tells what would be read and done.",
        (
            _path("source", "INPUT", f"{_KINDS}; {_SEVERAL}", nargs="*"),
            _path("-o --output", "OUTDIR", "folder for the results"),  # a file can name both
            *_FROM_ELSEWHERE,
        ),
        """examples:
  stmfg run outs/ -o domains --n-domains 7             a Space Ranger folder, seven domains
  stmfg run a.h5ad b.h5ad c.h5ad -o domains            slices, with common domains
  stmfg run cells.h5ad -o domains --library-key slide  several slices in one file
  stmfg run cells.h5ad -o domains --use-rep X_scVI     an embedding in place of counts
  stmfg run cells.h5ad -o domains --config lab.toml --set epochs=50
  stmfg run --from domains -o again --seed 1           an earlier run, with another seed
""",
    ),
    Command(
        "info",
        _info,
        "what a file or folder holds, and how to run on it",
        "Tell what INPUT is, what is in it, what a run would use, and the command for it.\n"
        "Nothing is written. The exit status is 2 where a run would be refused.",
        (_path("input", "INPUT", _KINDS),),
        "example: stmfg info outs/",
    ),
    Command(
        "apply",
        _apply,
        "domains of an earlier run in a new slice, without training",
        "Find the domains of MODEL in the slice INPUT without training, and write the same files as run.\n"
        "Warns where INPUT is unlike the tissue the model was trained on.",
        (
            _path("reference", "MODEL", "folder of an earlier run, its result.h5ad, or a saved model"),
            _path("input", "INPUT", f"{_KINDS}, as for run"),
            _OUTPUT,
        ),
        "example: stmfg apply domains/ other_outs/ -o other_domains/",
    ),
    Command(
        "batch",
        _batch,
        "every sample of a sheet by itself, and one page over all",
        "Run every sample of SHEET by itself into OUTDIR/SAMPLE, and write index.html and summary.csv.\n"
        "Samples that are finished are not run again, interrupted ones continue, failed ones leave the others alone.",
        (
            _path("sheet", "SHEET", "CSV with the columns sample, path; also donor, condition, and options"),
            _OUTPUT,
            _argument("--jobs", "N", "samples at a time (default: 1; with Slurm all)", type=int),
            _argument("--slurm", "KEY=VALUE", "run as Slurm jobs: partition=... time=... mem=...", nargs="*"),
            *_FROM_ELSEWHERE,
        ),
        "example: stmfg batch samples.csv -o results/ --jobs 4",
    ),
    Command(
        "export",
        _export,
        "domains for Loupe Browser, Xenium Explorer or SpatialData",
        "Write the domains of a run in the form that another program imports.",
        (
            _RESULT,
            _argument("--to", None, "the program", choices=_PROGRAMS, required=True),
            _path("-o --output", "FILE", ".csv, or a new .zarr for spatialdata", required=True),
            _argument("--key", "COLUMN", f"column of obs to export (default: {DOMAIN})"),
            _path("--source", "X.zarr", "spatialdata: store whose table shall have the domains"),
            _argument("--table", "NAME", "spatialdata: that table, where there are several"),
            _argument("--library-key", "COLUMN", "spatialdata, no --source: column that names the slice"),
            _argument("--slice", "NAME", "which slice, where several were run together", dest="slice_name"),
        ),
        "example: stmfg export domains/ --to loupe -o loupe.csv",
    ),
    Command(
        "report",
        _report,
        "the report of a finished run, written again",
        "Write report.html again from the files of a run, with another heading or with the edits made in it.",
        (
            _RESULT,
            _path("-o --output", "FILE.html", "the file (default: report.html beside the result)"),
            _path("--edits", "FILE.json", "names, colours, merged domains and selections that the report saved"),
            _argument("--genes", "A,B,...", "genes to search for besides the markers; or all, markers (default: all)"),
            _argument("--plane", None, "what is beside the map (default: pca)", choices=("pca", "umap")),
        ),
        """examples:
  stmfg report domains/ --title 'Patient 3, cortex'
  stmfg report domains/ --edits cortex-edits.json -o edited.html
""",
    ),
    Command(
        "compare",
        _compare,
        "which domains of two results are the same, and where they differ",
        "Compare the domains of two runs, or of a run and an annotation, spot by spot.",
        (
            _path("one", "A", "folder of a run, .h5ad, or table of domains"),
            _path("other", "B", "what to compare it with"),
            _path("-o --output", "FOLDER", "write differences.csv and draw differences.png"),
        ),
        "A table is a .csv with the name of the spot first and its label in the column domain, or else in the second\n"
        "column; the folder of a run stands for its domains.csv. Example: stmfg compare seed0/ seed1/ -o differences/",
    ),
    Command(
        "demo",
        _demo,
        "the same on a simulated cortex, no download",
        "Simulate a layered cortex with known domains and run on it.",
        (_path("-o --output", "OUTDIR", "folder for the results (default: demo)", default="demo"),),
    ),
    Command(
        "completion",
        _completion,
        "script for the completion of a shell",
        "Print the script that lets a shell complete what follows stmfg.",
        (_argument("shell", "SHELL", "bash, zsh or fish", choices=_SHELLS),),
        """to have it in every new shell:
  bash   stmfg completion bash > ~/.local/share/bash-completion/completions/stmfg
  zsh    stmfg completion zsh > DIR/_stmfg, with DIR a folder of $fpath
  fish   stmfg completion fish > ~/.config/fish/completions/stmfg.fish
""",
    ),
)
"""In the order of the help."""
