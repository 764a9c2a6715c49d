"""Many samples with common domains, one at a time in memory: the result, lost workers, and continuing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stmfg
import stmfg.report
from _commands import ENVIRONMENT
from _runs import one_thread
from stmfg.datasets import simulate_slices
from stmfg.errors import InputError
from stmfg.metrics import ari
from stmfg.workflow import run, run_apply

pytest.importorskip("pyarrow", reason="the table of a cohort needs pyarrow, an optional dependency")

QUICK: dict[str, Any] = {"n_domains": 3, "epochs": 3, "n_votes": 2, "n_starts": 1}


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sheet of six small samples in two conditions."""
    folder = tmp_path_factory.mktemp("samples")
    together = simulate_slices(6, 250, 40, n_domains=3, layout="cells", difficulty=0.3)
    rows = []
    for i, name in enumerate(together.obs["slice"].unique()):
        adata = together[together.obs["slice"] == name].copy()
        adata.obs_names = [f"c{j}" for j in range(adata.n_obs)]
        adata.write_h5ad(folder / f"{name}.h5ad")
        rows.append((name, f"{name}.h5ad", "ab"[i % 2]))
    path = folder / "samples.csv"
    pd.DataFrame(rows, columns=["sample", "path", "condition"]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def whole(sheet: Path) -> Path:
    """An undisturbed run in this process."""
    output = sheet.parent / "whole"
    with one_thread():
        run(sheet, output, cluster="here", **QUICK)
    return output


def table(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "domains.parquet").sort_values(["sample", "spot"], ignore_index=True)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # a domain of the joint run that cannot be split
def test_a_cohort_has_the_domains_of_one_joint_run(sheet: Path, whole: Path, tmp_path: Path) -> None:
    names = {"result.h5ad", "markers.csv", "domains.png", "report.html", "run.json", "composition.csv"}
    names |= {"abundance.csv", "abundance.png"}
    assert {path.name for path in whole.iterdir()} == names | {"samples", "samples.csv", "domains.parquet", "fitted"}
    with one_thread():
        run(sheet, tmp_path / "joint", **QUICK)
    joint = pd.read_csv(tmp_path / "joint" / "domains.csv").sort_values(["slice", "spot"], ignore_index=True)
    domains = table(whole)
    assert domains["spot"].tolist() == joint["spot"].tolist()
    assert ari(joint["domain"], domains["domain"].astype(str)) >= 0.98
    composition = pd.read_csv(whole / "composition.csv")
    assert composition["spots"].sum() == len(domains) == json.loads((whole / "run.json").read_text())["n_obs"]


def test_the_result_of_a_sample(whole: Path) -> None:
    adata = ad.read_h5ad(whole / "samples" / "slice2.h5ad")
    rows = table(whole).query("sample == 'slice2'").set_index("spot").loc[adata.obs_names]
    assert adata.obs["stmfg_domain"].astype(str).tolist() == rows["domain"].astype(str).tolist()
    assert adata.obsm["X_stmfg"].shape[0] == 250
    assert set(adata.obs["condition"]) == {"b"}


def test_a_lost_worker_changes_nothing(sheet: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason='needs pip install "stmfg[cohort]"')
    import psutil

    output = tmp_path / "out"
    settings = [f"--set={name}={value}" for name, value in QUICK.items() if name != "n_domains"]
    command = ["run", str(sheet), "-o", str(output), "--joint", "--cluster", "local:2", "--n-domains", "3", "--quiet"]
    with subprocess.Popen([sys.executable, "-m", "stmfg", *command, *settings], env=ENVIRONMENT) as process:
        while not list(output.glob(".cohort/patches/*.h5ad")):
            assert process.poll() is None
            time.sleep(0.01)
        workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        os.kill(workers[0].pid, 9)
        assert process.wait(300) == 0
    pd.testing.assert_frame_equal(table(output), table(whole))


def test_a_scheduler_and_workers_started_by_hand(sheet: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason='needs pip install "stmfg[cohort]"')
    file = tmp_path / "scheduler.json"
    alone = ["--no-dashboard", "--scheduler-file", str(file)]
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", *alone],
        *[["worker", "--nthreads", "1", *alone]] * 2,
    ]
    processes = [subprocess.Popen([sys.executable, "-m", "dask", *each], env=ENVIRONMENT) for each in commands]
    try:
        while not file.exists():
            assert processes[0].poll() is None
            time.sleep(0.01)
        with one_thread():
            run(sheet, tmp_path / "out", cluster=json.loads(file.read_text())["address"], **QUICK)
        assert all(process.poll() is None for process in processes)  # others may use them next
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)
    pd.testing.assert_frame_equal(table(tmp_path / "out"), table(whole))


def test_jobs_of_slurm(sheet: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue", reason='needs pip install "stmfg[cohort]"')
    commands = {
        "sbatch": 'nohup bash -c "$(cat $1)" > /dev/null 2>&1 &\necho Submitted batch job $!',
        "scancel": "kill $1 $(pgrep -P $1)",
    }
    for name, command in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{command}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    job = {"cores": 1, "memory": "2GB", "scheduler-options": {"dashboard_address": ":0"}}
    with one_thread(), dask.config.set({"jobqueue.slurm": dask.config.get("jobqueue.slurm") | job}):
        run(sheet, tmp_path / "out", cluster="slurm:2", **QUICK)
        (tmp_path / "sbatch").write_text("#!/bin/bash\necho invalid partition >&2\nexit 1\n")
        with pytest.raises(InputError, match=r"slurm:2.*jobqueue\.yaml"):
            run(sheet, tmp_path / "refused", cluster="slurm:2", **QUICK)
    pd.testing.assert_frame_equal(table(tmp_path / "out"), table(whole))


def test_a_run_continues(
    sheet: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "out"
    with one_thread(), monkeypatch.context() as patch:
        patch.setattr(stmfg.report, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(sheet, output, cluster="here", **QUICK)
    caplog.set_level(logging.INFO, logger="stmfg")
    with one_thread():
        run(sheet, output, cluster="here", **QUICK)
    assert "6 of 6 samples are finished already" in caplog.text
    pd.testing.assert_frame_equal(table(output), table(whole))


def test_a_model_of_a_few_samples_is_applied_to_the_rest(sheet: Path, whole: Path, tmp_path: Path) -> None:
    other = stmfg.read(sheet.parent / "slice1.h5ad")
    other.X = other.X[:, np.random.default_rng(0).permutation(other.n_vars)]  # another tissue
    other.write_h5ad(tmp_path / "other.h5ad")
    rest = tmp_path / "rest.csv"
    rest.write_text(f"sample,path\nsame,{sheet.parent / 'slice2.h5ad'}\nother,{tmp_path / 'other.h5ad'}\n")
    with one_thread():
        record = run_apply(whole, rest, tmp_path / "out")
    novelty = pd.read_csv(tmp_path / "out" / "samples.csv").set_index("sample")["far"]
    assert novelty["other"] > 0.5 > novelty["same"]
    assert record["far"] == novelty.to_dict()
    assert len(table(tmp_path / "out")) == 500


def test_what_a_cohort_cannot_do(sheet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it must be here"):
        run(sheet, tmp_path / "out", cluster="everywhere")
    with pytest.raises(InputError, match="cluster is for the samples of a sheet"):
        run(sheet.parent / "slice1.h5ad", tmp_path / "out", cluster="here")
    with pytest.raises(InputError, match="stability does not go with cluster"):
        run(sheet, tmp_path / "out", cluster="here", stability=2)
    assert not (tmp_path / "out").exists()
