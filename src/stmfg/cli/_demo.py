"""``stmfg demo``: the same as ``run`` on a simulated cortex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stmfg.cli._common import add_messages, print_summary, take_messages

if TYPE_CHECKING:
    import argparse

    from stmfg.cli._common import Parser


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser."""
    demo = commands.add_parser(
        "demo",
        help="the same on a simulated cortex, no download",
        description="Simulate a layered cortex with known domains and run on it.",
    )
    demo.add_argument("-o", "--output", metavar="OUTDIR", default="demo", help="folder for the results (default: demo)")
    demo.add_argument("--seed", metavar="S", type=int, default=0, help="seed of simulation and run (default: 0)")
    add_messages(demo)
    demo.set_defaults(call=call)


def call(options: dict[str, Any]) -> None:
    """Simulate, run, and say how well the domains agree with the simulated ones."""
    from stmfg.datasets import simulate
    from stmfg.metrics import ari
    from stmfg.workflow._run import run

    quiet, output, seed = take_messages(options), options["output"], options["seed"]
    adata = simulate(3000, 500, random_state=seed)
    truth = adata.obs["ground_truth"].astype(str).to_numpy()
    record = run(adata, output, n_domains=len(set(truth)), random_state=seed, progress=not quiet)
    if not quiet:
        print_summary(record, output)
        print(f"agreement with the simulated truth: ARI {ari(truth, adata.obs['stmfg_domain'].astype(str)):.2f}")
