"""The methods of the benchmark: each is a process that reads an h5ad without labels and writes a CSV of labels."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import environments
import stmfg

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
HIDDEN = ("STMFG_DATA", "PYTHONPATH")  # a method is not told where the annotated files are
COMMAND_LINE = "import sys; from stmfg.cli import main; sys.exit(main())"
# The default preset with some of its hyperparameters changed.
ABLATION = """
import json, sys, anndata, stmfg
source, k, output, seed, rep, options = sys.argv[1:]
adata = anndata.read_h5ad(source)
stmfg.tl.domains(adata, n_domains=int(k), random_state=int(seed), use_rep=rep or None, **json.loads(options))
adata.obs[["stmfg_domain"]].to_csv(output, index_label="spot")
"""


@dataclass(frozen=True)
class Job:
    """One run: the unlabelled file, K, the seed, the embedding to use or none, spots or cells, and a scratch folder."""

    source: Path
    k: int
    seed: int
    rep: str
    kind: str
    folder: Path

    @property
    def labels(self) -> Path:
        """Where the method writes its labels."""
        return self.folder / "labels.csv"


@dataclass(frozen=True)
class Method:
    """How a method is run. ``labels`` tells where it leaves its labels, if not at ``job.labels``."""

    name: str
    command: Callable[[Job], list[str]]
    version: str
    needs_counts: bool = False
    path: tuple[Path, ...] = ()
    labels: Callable[[Job], Path] = lambda job: job.labels

    def environment(self, threads: int) -> dict[str, str]:
        """Return the environment variables of the method's process."""
        env = {key: value for key, value in os.environ.items() if key not in HIDDEN}
        env |= dict.fromkeys(THREADS, str(threads))
        return env | {"PYTHONPATH": os.pathsep.join(map(str, self.path))} if self.path else env


def _preset(preset: str, name: str = "", **options: object) -> Method:
    def command(job: Job) -> list[str]:
        line = [sys.executable, "-c", COMMAND_LINE, "run", str(job.source), "-o", str(job.folder / "out")]
        line += ["--n-domains", str(job.k), "--preset", preset, "--seed", str(job.seed), "--device", "cpu", "--quiet"]
        line += ["--overwrite"]  # of another seed
        line += [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
        return line + (["--use-rep", job.rep] if job.rep else [])

    labels = lambda job: job.folder / "out" / "domains.csv"  # noqa: E731
    return Method(name or preset, command, stmfg.__version__, path=_ours(), labels=labels)


def _script(name: str, *arguments: str) -> Method:
    def command(job: Job) -> list[str]:
        line = [sys.executable, str(HERE / arguments[0]), *arguments[1:], str(job.source), str(job.k), str(job.labels)]
        return line + ["--seed", str(job.seed)] + (["--use-rep", job.rep] if job.rep else [])

    return Method(name, command, "")


def _peer(name: str, *, needs_counts: bool = True) -> Method:
    def command(job: Job) -> list[str]:
        line = [str(environments.python_of(name)), str(HERE / "peers" / name / "run.py"), str(job.source), str(job.k)]
        line += [str(job.labels), "--seed", str(job.seed), "--kind", job.kind]
        return line + (["--use-rep", job.rep] if job.rep else [])

    return Method(name, command, environments.version_of(name), needs_counts, path=(HERE / "peers",))


def ablation(options: dict[str, object]) -> Method:
    """Return the default preset with some hyperparameters changed, as a method of its own."""

    def command(job: Job) -> list[str]:
        line = [sys.executable, "-c", ABLATION, str(job.source), str(job.k), str(job.labels), str(job.seed), job.rep]
        return [*line, json.dumps(options)]

    name = "default, " + ", ".join(f"{key}={json.dumps(value)}" for key, value in options.items())
    return Method(name, command, stmfg.__version__, path=_ours())


def _ours() -> tuple[Path, ...]:
    return (Path(stmfg.__file__).resolve().parents[1],)


METHODS = {
    method.name: method
    for method in (
        _preset("default"),
        _preset("default", "domains alone", redraws=0, finest_level=0),
        _preset("paper"),
        _script("floor", "floor.py"),
        _script("mixture", "baselines.py", "mixture"),
        _script("leiden", "baselines.py", "leiden"),
        _peer("cellcharter", needs_counts=False),
        _peer("nichepca", needs_counts=False),
        _peer("banksy", needs_counts=False),
        _peer("spagcn", needs_counts=False),
        _peer("graphst", needs_counts=False),
        _peer("spaceflow"),
        _peer("squidpy", needs_counts=False),
        _peer("cosmim"),
    )
}
