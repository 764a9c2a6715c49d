"""Hostile and broken input: every case must end in a result or one clear line, and touch nothing else.

``python -m reliability.fuzz --cases 2000``; a case is repeated, with what it says, by ``--only NUMBER``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reliability.inputs import KINDS, record
from reliability.mutate import mutate
from reliability.payloads import MARK

SECONDS = 60
MEMORY = 3 * 2**30
"""Address space a case may take beyond that of a process with everything loaded."""
OUTPUTS = {"result.h5ad", "domains.csv", "markers.csv", "domains.png", "report.html", "run.json"}
SLICES = {"composition.csv", "abundance.csv"}
"""Of several slices, too."""
RUNS_CODE = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class",
    "socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind", "urllib.Request",
)  # fmt: skip
WRITES = {"open": 0, "os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.symlink": 1, "os.truncate": 0}
"""Audit events that change files, and which argument is the file."""


@dataclass
class Case:
    """What came of one case."""

    number: int
    kind: str
    change: str
    outcome: str
    """``result``, ``refused`` or what is wrong."""
    said: str
    peak_mb: float

    @property
    def failed(self) -> bool:
        return self.outcome not in ("result", "refused")


def _watch(allowed: Path, report: int) -> None:
    """Write to a descriptor what must not happen: code run, network, files changed elsewhere."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class" and str(arguments[0]).startswith(("anndata.", "dask.")):
            return  # dask sends its own functions to itself
        if event in RUNS_CODE:
            os.write(report, f"{event} {arguments!r}\n".encode("utf-8", "replace"))
        elif event in WRITES:
            path = arguments[WRITES[event]]
            if event == "open" and (not isinstance(path, (str, bytes)) or not _for_writing(*arguments[1:3])):
                return
            if (
                event != "open"
                and any(isinstance(a, int) and a >= 0 for a in arguments[1:])
                and not os.path.isabs(path)
            ):
                return  # relative to an open folder, as shutil.rmtree removes: the state of the sandbox tells
            full = Path(os.path.realpath(os.fsdecode(path)))
            if not full.is_relative_to(allowed) and full != Path(os.devnull):
                os.write(report, f"{event} {full}\n".encode("utf-8", "replace"))

    sys.addaudithook(hook)


def _for_writing(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _child(root: Path, source: Path, options: list[str]) -> None:
    """Run the command in this process, which ends with its status."""
    status = 70
    try:
        for name, number in (("said", 2), ("out.txt", 1)):
            os.dup2(os.open(root / "watched" / name, os.O_WRONLY | os.O_CREAT), number)
        report = os.open(root / "watched" / "violations", os.O_WRONLY | os.O_CREAT)
        os.chdir(root / "here")
        tempfile.tempdir = str(root / "out-tmp")
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        _watch(root.resolve() / "out-tmp", report)
        from stmfg.cli import main

        status = main(
            [
                "run",
                str(source),
                "-o",
                str(root / "out-tmp" / "out"),
                "--from",
                str(root / "quick.json"),
                "--quiet",
                *options,
            ]
        )
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _state(root: Path) -> dict[str, str]:
    """Return what lies in a folder and what it holds, without what the case may write to."""
    found = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if inside.parts[0] in ("out-tmp", "watched"):
            continue
        mode = path.lstat().st_mode
        found[str(inside)] = hashlib.sha1(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else oct(mode)
    return found


def _judge(root: Path, ended: int, before: dict[str, str]) -> tuple[str, str]:
    said = (root / "watched" / "said").read_text(errors="replace")
    lines = [line for line in said.splitlines() if not line.startswith("stmfg: WARNING: ")]
    if os.WIFSIGNALED(ended):
        number = os.WTERMSIG(ended)
        return ("does not end" if number == signal.SIGALRM else f"killed by {signal.Signals(number).name}"), said
    status, violations = os.WEXITSTATUS(ended), (root / "watched" / "violations").read_text()
    if violations:
        return "reaches out: " + violations.splitlines()[0][:200], said
    if _state(root) != before:
        return "changes files outside of the output folder", said
    output = root / "out-tmp" / "out"
    if status == 2:
        if len(lines) != 1 or not lines[0].startswith("stmfg: "):
            return f"refused with {len(lines)} lines", said
        return ("half-written", said) if output.exists() else ("refused", said)
    if status == 1 and len(lines) == 1 and lines[0].startswith("stmfg: not enough memory"):
        return ("half-written", said) if output.exists() else ("refused", said)
    if status != 0:
        return f"status {status}", said
    if lines:
        return "noise", said
    return _judge_result(output), said


def _judge_result(output: Path) -> str:
    import anndata
    import pandas as pd

    if {p.name for p in output.iterdir()} - SLICES != OUTPUTS:
        return "not the files of a run"
    table = pd.read_csv(output / "domains.csv", dtype=str, keep_default_na=False)
    result = anndata.read_h5ad(output / "result.h5ad")
    if table["domain"].tolist() != result.obs["stmfg_domain"].astype(str).tolist():
        return "table and result differ"
    if not np.isfinite(result.obsm["X_stmfg"]).all():
        return "embedding is not finite"
    report = (output / "report.html").read_text()
    if f"<script>window.{MARK}" in report or f"<img src=x onerror={MARK}" in report or f"<script>{MARK}" in report:
        return "report is not escaped"
    return "result"


def run_case(number: int, seed: int, bases: Path, scratch: Path) -> Case:
    """Run one case in a process of its own."""
    random = np.random.default_rng([seed, number])
    kind = list(KINDS)[number % len(KINDS)] if random.random() < 0.7 else "h5ad"
    root = Path(tempfile.mkdtemp(prefix="case-", dir=scratch))
    try:
        for name in ("watched", "here", "out-tmp"):
            (root / name).mkdir()
        record(root / "quick.json")
        shutil.copytree(bases / kind, root, dirs_exist_ok=True)
        change = mutate(root, random)
        source = next((p for p in root.iterdir() if p.name.startswith("input")), root / "input")
        more = [["--library-key", "ground_truth"], ["--use-rep", "X_rep"], ["--n-domains", "auto"]]
        options = more[int(random.integers(3))] if random.random() < 0.2 else []
        before = _state(root)
        child = os.fork()
        if not child:
            _child(root, source, options)
        _, ended, usage = os.wait4(child, 0)
        try:
            outcome, said = _judge(root, ended, before)
        except Exception as error:
            outcome, said = f"result cannot be read: {error}", ""
        return Case(number, kind, change, outcome, said, usage.ru_maxrss / 1024)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def fuzz(cases: int, *, seed: int = 0, start: int = 0, show: bool = False) -> list[Case]:
    """Run cases; with `show` print the failed ones as they come."""
    # Loaded once, and every case is a fork of it.
    import warnings

    import stmfg.report
    import stmfg.tl
    import stmfg.workflow
    from reliability.inputs import QUICK, tissue

    found = []
    with tempfile.TemporaryDirectory(prefix="stmfg-fuzz-") as name:
        scratch = Path(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for kind, write in KINDS.items():
                (scratch / "bases" / kind).mkdir(parents=True)
                write(scratch / "bases" / kind)
        stmfg.workflow.run(tissue(), scratch / "warm", n_domains=3, **QUICK)  # all that is loaded on first use
        for number in range(start, start + cases):
            case = run_case(number, seed, scratch / "bases", scratch)
            found.append(case)
            if show and case.failed:
                print(
                    f"{case.number} {case.kind}: {case.change}\n    {case.outcome}\n    {case.said[-1500:]}", flush=True
                )
    return found


def main(cases: int = 2000, *, seed: int = 0, start: int = 0) -> dict[str, Any]:
    """Run cases, print what failed and return the figures."""
    began = time.time()
    found = fuzz(cases, seed=seed, start=start, show=True)
    outcomes = Counter(case.outcome for case in found)
    return {
        "cases": len(found),
        "results": outcomes["result"],
        "refused in one line": outcomes["refused"],
        "failures": sum(case.failed for case in found),
        "most memory of a case, MB": round(max(case.peak_mb for case in found)),
        "seconds": round(time.time() - began),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    if given.only is not None:
        for each in fuzz(1, seed=given.seed, start=given.only):
            print(each)
    else:
        print(json.dumps(main(given.cases, seed=given.seed, start=given.start)))
