"""Several real processes train one network: together, across networks, and when one of them is killed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stmfg import datasets
from stmfg.metrics import ari
from stmfg.model.processes import Processes
from stmfg.workflow import OUTPUTS

needs_fabric = pytest.mark.skipif(
    importlib.util.find_spec("lightning_fabric") is None, reason='needs pip install "stmfg[processes]"'
)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
SECONDS = 240


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def command(source: Path, output: Path) -> list[str]:
    return ["-m", "stmfg", "run", str(source), "-o", str(output), "--n-domains", "4", "--quiet"]


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tissue") / "tissue.h5ad"
    datasets.simulate(800, 150, n_domains=4, difficulty=0.3, random_state=0).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def alone(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Domains found by one process."""
    output = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, *command(tissue, output)], check=True, timeout=SECONDS)
    return pd.read_csv(output / "domains.csv")


def test_one_process_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    processes = Processes(torch.device("cpu"))
    parameter = torch.ones(3, requires_grad=True)
    parameter.grad = torch.arange(3.0)
    processes.average_gradients_([parameter])
    processes.share_([parameter])
    assert processes.size == 1
    assert processes.share("anything") == "anything"
    assert parameter.grad.tolist() == [0, 1, 2]


@needs_fabric
def test_two_processes_agree_with_one(tissue: Path, alone: pd.DataFrame, tmp_path: Path) -> None:
    line = [*TORCHRUN, "--nproc-per-node", "2", "--master-port", free_port(), *command(tissue, tmp_path / "out")]
    subprocess.run(line, check=True, timeout=SECONDS)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(OUTPUTS)
    assert ari(alone["domain"], pd.read_csv(tmp_path / "out" / "domains.csv")["domain"]) >= 0.98


DIES = """
import os, signal, sys
import stmfg.model.train
from stmfg.workflow import run

whole, steps = stmfg.model.train._losses, []
def losses(*args):
    steps.append(1)
    if os.environ["RANK"] == "1" and len(steps) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*args)
stmfg.model.train._losses = losses
try:
    run(sys.argv[1], sys.argv[2], n_domains=4, epochs=30)
except stmfg.StmfgError as error:
    print(error)
    os._exit(1)
"""


@needs_fabric
def test_a_killed_process_ends_the_run_and_leaves_a_checkpoint(tissue: Path, tmp_path: Path) -> None:
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "TORCHELASTIC_RUN_ID": "test",  # what torchrun sets, by which Fabric knows it
        "GROUP_RANK": "0",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", DIES, str(tissue), str(tmp_path / "out")],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=SECONDS)[0] for process in started]
    assert [process.returncode for process in started] == [1, -signal.SIGKILL]
    assert said[0].count("\n") == 1
    assert "another process of this run was lost" in said[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoint.safetensors"]
    resume = "import sys, logging; logging.basicConfig(level='INFO'); from stmfg.workflow import run; "
    resume += "run(sys.argv[1], sys.argv[2], n_domains=4, epochs=30, resume=True)"
    done = subprocess.run(
        [sys.executable, "-c", resume, str(tissue), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert "continuing at epoch 6" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(OUTPUTS)


@pytest.fixture
def networks() -> Iterator[dict[str, str]]:
    """Two network namespaces joined by a cable: name and address of each."""
    names = {"stmfg-test-a": "10.213.7.1", "stmfg-test-b": "10.213.7.2"}
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and root")
    made = subprocess.run(["ip", "netns", "add", "stmfg-test-a"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.decode().strip()}")
    try:
        ip = ["ip netns add stmfg-test-b", "ip link add stmfg-a type veth peer name stmfg-b"]
        for end, (name, address) in zip("ab", names.items(), strict=True):
            ip += [
                f"ip link set stmfg-{end} netns {name}",
                f"ip -n {name} addr add {address}/24 dev stmfg-{end}",
                f"ip -n {name} link set stmfg-{end} up",
                f"ip -n {name} link set lo up",
            ]
        for line in ip:
            done = subprocess.run(line.split(), capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"no virtual networks here: {done.stderr.decode().strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@needs_fabric
def test_two_machines_agree_with_one(
    networks: dict[str, str], tissue: Path, alone: pd.DataFrame, tmp_path: Path
) -> None:
    first = next(iter(networks.values()))
    started: list[Any] = []
    for node, (name, end) in enumerate(zip(networks, "ab", strict=True)):
        line = ["ip", "netns", "exec", name, *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1"]
        line += ["--node-rank", str(node), "--master-addr", first, "--master-port", "29533"]
        line += command(tissue, tmp_path / f"out-{end}")
        environment = os.environ | {"GLOO_SOCKET_IFNAME": f"stmfg-{end}"}
        started.append(subprocess.Popen(line, env=environment, stderr=subprocess.PIPE))
    for process in started:
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said.decode()[-2000:]
    assert ari(alone["domain"], pd.read_csv(tmp_path / "out-a" / "domains.csv")["domain"]) >= 0.98
    assert not (tmp_path / "out-b").exists()
    assert np.isfinite(alone["confidence"]).all()
