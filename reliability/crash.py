"""Crashes: a run that is killed, interrupted or out of resources leaves nothing half-written, and resumes to the same.

``python -m reliability.crash``.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reliability.inputs import record, tissue

OUTPUTS = ("result.h5ad", "domains.csv", "markers.csv", "domains.png", "report.html", "run.json")
STALLED_SECONDS = 60
LEFT = {".lock", "checkpoint.safetensors"}
"""What an interrupted run may leave beside, apart from folders whose name begins with .partial-."""


class Bench:
    """A folder with an input, the answer of an uninterrupted run, and an earlier result of another one.

    Parameters
    ----------
    root
        Empty folder.
    epochs
        Length of the training, with a checkpoint after every epoch.
    """

    def __init__(self, root: Path, *, epochs: int = 30) -> None:
        import stmfg.model.train
        import stmfg.report
        import stmfg.tl

        self.root = root
        stmfg.model.train.CHECKPOINT_SECONDS = 0.0
        tissue().write_h5ad(root / "input.h5ad")
        self.source = (root / "input.h5ad").read_bytes()
        params = {"epochs": epochs}
        record(root / "quick.json")
        _change(root / "quick.json", params)
        self.seconds = -time.monotonic()
        self.wait(self.start("reference"))
        self.seconds += time.monotonic()
        self.reference = (root / "reference" / "domains.csv").read_bytes()
        self.wait(self.start("earlier", "--n-domains", "3"))
        self.earlier = {name: (root / "earlier" / name).read_bytes() for name in OUTPUTS}

    def start(self, output: str, *options: str, before: Callable[[], None] = lambda: None) -> int:
        """Start the command in a process of its own and return its number."""
        child = os.fork()
        if child:
            return child
        status = 70
        try:
            os.setsid()
            os.dup2(os.open(self.root / f"{output}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            before()
            from stmfg.cli import main

            arguments = [
                "--from",
                str(self.root / "quick.json"),
                "-o",
                str(self.root / output),
                "--overwrite",
                "--quiet",
            ]
            status = main(["run", str(self.root / "input.h5ad"), *arguments, *options])
        except BaseException as error:
            os.write(2, f"escaped: {error!r}\n".encode())
        finally:
            os._exit(status)

    def wait(self, child: int) -> int:
        """Return the exit status, or minus the signal that ended the process."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def said(self, output: str) -> list[str]:
        """Return the lines of standard error of the last run."""
        return (self.root / f"{output}.said").read_text().splitlines()

    def with_earlier(self, output: str) -> Path:
        """Make the output folder anew, with the result of an earlier run in it."""
        folder = self.root / output
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in self.earlier.items():
            (folder / name).write_bytes(content)
        return folder

    def problem(self, output: str, *, clean: bool = False) -> str:
        """Say what is wrong with the state of an output folder: a mixture, rubbish, a lost input.

        With `clean` nothing but results and a checkpoint may be left.
        """
        folder = self.root / output
        if (self.root / "input.h5ad").read_bytes() != self.source:
            return "the input was changed"
        there = {p.name for p in folder.iterdir()} if folder.exists() else set()
        rest = {name for name in there - set(OUTPUTS) - LEFT if not name.startswith(".partial-")}
        if rest:
            return f"left behind: {rest}"
        if clean and there - set(OUTPUTS) - {"checkpoint.safetensors"}:
            return f"left behind: {sorted(there - set(OUTPUTS))}"
        if "run.json" not in there:
            return ""  # says that the set is not whole
        if not set(OUTPUTS) <= there:
            return "a record without its files"
        if all((folder / name).read_bytes() == content for name, content in self.earlier.items()):
            return ""
        return "" if self.whole(output) else "a mixture with a record"

    def whole(self, output: str) -> bool:
        """Whether a folder holds the answer of the uninterrupted run, in all its files."""
        import anndata
        from PIL import Image

        folder = self.root / output
        domains = anndata.read_h5ad(folder / "result.h5ad").obs["stmfg_domain"].astype(str)
        rows = [line.split(",")[1] for line in self.reference.decode().splitlines()[1:]]
        with Image.open(folder / "domains.png") as image:
            image.load()
        return (
            (folder / "domains.csv").read_bytes() == self.reference
            and domains.tolist() == rows
            and (folder / "report.html").read_text().rstrip().endswith("</html>")
            and b'"n_domains": 4' in (folder / "run.json").read_bytes()
        )

    def resumed(self, output: str) -> str:
        """Resume to the end, and say what is wrong with what comes out."""
        status = self.wait(self.start(output, "--resume"))
        if status:
            return f"not resumed: status {status}, {self.said(output)[-1:]}"
        if {p.name for p in (self.root / output).iterdir()} != set(OUTPUTS):
            return f"left behind: {sorted(p.name for p in (self.root / output).iterdir())}"
        return "" if self.whole(output) else "other labels after resuming"


def _change(path: Path, params: dict[str, Any]) -> None:
    said = json.loads(path.read_text())
    said["params"] |= params
    path.write_text(json.dumps(said))


def kills(bench: Bench, n: int, random: np.random.Generator) -> list[str]:
    """Kill runs at random moments, every third one twice, and resume them."""
    problems = []
    for i in range(n):
        bench.with_earlier("killed")
        for again in range(1 + (i % 3 == 0)):
            child = bench.start("killed", *["--resume"] * again)
            time.sleep(random.uniform(0, bench.seconds))
            os.kill(child, signal.SIGKILL)
            bench.wait(child)
            problems.append(bench.problem("killed"))
        problems.append(bench.resumed("killed"))
    return [problem for problem in problems if problem]


def _kill_at(step: int) -> Callable[[], None]:
    """Return what makes a process kill itself just before its n-th change to the file system."""

    def before() -> None:
        changes = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal changes
            opened = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            if opened or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
                changes += 1
                if changes == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return before


def steps(bench: Bench, at_most: int = 1000, stride: int = 1) -> tuple[int, list[str]]:
    """Kill a resumed run before every change it makes to the file system; return how many, and the problems."""
    # A finished training is resumed: what is left are the steps that write the result.
    bench.with_earlier("stepped")
    child = bench.start("stepped", before=_kill_when("domains.csv"))
    bench.wait(child)
    checkpoint = (bench.root / "stepped" / "checkpoint.safetensors").read_bytes()
    problems, done = [], 0
    for step in range(1, at_most, stride):
        folder = bench.with_earlier("stepped")
        (folder / "checkpoint.safetensors").write_bytes(checkpoint)
        status = bench.wait(bench.start("stepped", "--resume", before=_kill_at(step)))
        if status == 0:
            break
        done += 1
        problems.append(bench.problem("stepped") or bench.resumed("stepped"))
    return done, [problem for problem in problems if problem]


def _kill_when(name: str) -> Callable[[], None]:
    def before() -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and str(arguments[0]).endswith(name):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return before


def interrupts(bench: Bench, n: int, random: np.random.Generator) -> list[str]:
    """Press Ctrl-C once at random moments."""
    problems = []
    for _ in range(n):
        bench.with_earlier("interrupted")
        child = bench.start("interrupted")
        time.sleep(random.uniform(0.05, bench.seconds))
        os.kill(child, signal.SIGINT)
        status = bench.wait(child)
        problem = bench.problem("interrupted", clean=True)
        if status not in (0, 130):
            problem = problem or f"status {status}, {bench.said('interrupted')[-1:]}"
        if status == 130 and len(bench.said("interrupted")) != 1:
            problem = problem or f"Ctrl-C said {bench.said('interrupted')}"
        problems.append(problem or bench.resumed("interrupted"))
    return [problem for problem in problems if problem]


def memory(bench: Bench, limits_mb: list[int]) -> tuple[int, int, list[str]]:
    """Run with so much more memory than a process with everything loaded; return how many ran out, and how many stalled.

    Python waits for ever for a thread whose start fails for want of memory, which no program can catch.
    """
    problems, short, stalled = [], 0, 0
    for limit in limits_mb:
        bench.with_earlier("starved")

        def before(limit: int = limit) -> None:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + limit * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            signal.alarm(STALLED_SECONDS)

        status = bench.wait(bench.start("starved", before=before))
        short += status != 0
        stalled += status == -signal.SIGALRM
        problem = bench.problem("starved", clean=status in (0, 1, 2))
        if status not in (0, 1, 2, -signal.SIGALRM):
            problem = problem or f"{limit} MB: status {status}, {bench.said('starved')[-2:]}"
        elif status in (1, 2) and (len(bench.said("starved")) != 1 or "memory" not in bench.said("starved")[0]):
            problem = problem or f"{limit} MB: said {bench.said('starved')}"
        problems.append(problem or bench.resumed("starved"))
    return short, stalled, [problem for problem in problems if problem]


def disk(bench: Bench, sizes_kb: list[int]) -> tuple[int, list[str]] | str:
    """Run into a file system of so many kB; return how many runs found it full, or why none can be made."""
    folder = bench.root / "full"
    folder.mkdir()
    problems, short = [], 0
    for size in sizes_kb:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode:
            folder.rmdir()
            return f"no small file system can be mounted here: {mounted.stderr.strip()}"
        try:
            status = bench.wait(bench.start("full/out"))
            problem = bench.problem("full/out", clean=True)
            said = (bench.root / "full" / "out.said").read_text().splitlines()
            if status:
                short += 1
                words = {1: "no space is left", 2: "has room for"}.get(status)
                if words is None or len(said) != 1 or words not in said[0]:
                    problem = problem or f"{size} kB: status {status}, said {said[-2:]}"
                subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True, capture_output=True)
                problem = problem or bench.resumed("full/out")
            problems.append(problem)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    return short, [problem for problem in problems if problem]


def together(bench: Bench, n: int) -> tuple[int, list[str]]:
    """Start two runs into one folder at once; return how many were refused."""
    problems, refused = [], 0
    for i in range(n):
        shutil.rmtree(bench.root / "shared", ignore_errors=True)
        first = bench.start("shared")
        time.sleep(0.03 * i)
        second = bench.start("shared")
        ended = sorted([bench.wait(first), bench.wait(second)])
        refused += ended == [0, 2]
        problem = "" if ended in ([0, 2], [0, 0]) else f"two runs ended with {ended}"
        problems.append(
            problem or bench.problem("shared", clean=True) or ("" if bench.whole("shared") else "no result")
        )
    return refused, [problem for problem in problems if problem]


def main(n_kills: int = 40, *, seed: int = 0, short: bool = False) -> dict[str, Any]:
    """Run everything, print what failed and return the figures."""
    random = np.random.default_rng(seed)
    limits = [8, 48] if short else [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    sizes = [256, 640] if short else [64, 128, 192, 256, 320, 384, 512, 640, 768, 896, 1024, 1536, 2048, 4096]
    with tempfile.TemporaryDirectory(prefix="stmfg-crash-") as name:
        bench = Bench(Path(name))
        problems = {"killed": kills(bench, n_kills, random)}
        n_steps, problems["killed before a change"] = steps(bench, stride=8 if short else 1)
        problems["Ctrl-C"] = interrupts(bench, n_kills, random)
        starved, stalled, problems["memory"] = memory(bench, limits)
        full = disk(bench, sizes)
        problems["disk"] = [] if isinstance(full, str) else full[1]
        refused, problems["two at once"] = together(bench, 2 if short else 10)
    found = [f"{kind}: {problem}" for kind, some in problems.items() for problem in some]
    print("\n".join(found))
    return {
        "kills at random moments, resumed": n_kills + -(-n_kills // 3),
        "kills before a change to the file system, resumed": n_steps,
        "Ctrl-C, pressed once": n_kills,
        "runs out of memory": starved,
        "of them stalled by Python": stalled,
        "runs on a full disk": full if isinstance(full, str) else full[0],
        "two at once, one refused": refused,
        "failures": len(found),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 40, short="--short" in sys.argv)))
