"""The benchmark harness: no method sees a label, no failure stops it, nothing is done twice, tables are right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import accuracy
import environments
import gpu
import measure
import methods
import protocol
import scale
import tables

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LIMITS = {"time_limit": 60.0, "memory_limit_mb": 2000.0}


@pytest.fixture
def data(section: AnnData, tmp_path: Path) -> Path:
    """Return a data folder with one annotated section and its manifest."""
    folder = tmp_path / "data"
    folder.mkdir()
    section.obs["LIBD_clusters"] = section.obs["ground_truth"]
    section.uns["source"] = "simulated"
    section.obsm["X_pca"] = np.asarray(section.X.toarray())[:, :20]
    section.write_h5ad(folder / "section.h5ad")
    digest = protocol.hashlib.sha256((folder / "section.h5ad").read_bytes()).hexdigest()
    fields = ["name", "file", "sha256", "k", "kind", "platform", "rep", "licence", "origin"]
    row = ["section", "section.h5ad", digest, "4", "spots", "simulated", "", "ours", "simulated"]
    (folder / "manifest.tsv").write_text("\t".join(fields) + "\n" + "\t".join(row) + "\n")
    return folder


@pytest.fixture
def task(data: Path, tmp_path: Path) -> Any:
    (source,) = protocol.manifest(data / "manifest.tsv")
    folder = tmp_path / "task"
    folder.mkdir()
    return protocol.prepare(source, data, folder)


def script(code: str, **changes: Any) -> Any:
    """Return a method that runs a piece of code with INPUT and LABELS as its arguments."""

    def command(job: Any) -> list[str]:
        return [sys.executable, "-c", code, str(job.source), str(job.labels)]

    return methods.Method("script", command, "1", **changes)


def one(method: Any, task: Any, limits: dict[str, float] = LIMITS) -> dict[str, Any]:
    """Run a method once and return its row."""
    return accuracy.one(method, task, 0, limits, 1, kept(task))


def kept(task: Any) -> Path:
    """Return where the labels of the methods stay: not where a method would find them."""
    return task.input.parents[1] / "kept"


def test_the_file_of_a_method_has_counts_and_positions_and_nothing_else(task: Any, section: AnnData) -> None:
    given = ad.read_h5ad(task.input)
    assert given.obs.columns.empty
    assert given.var.columns.empty
    assert not given.uns
    assert list(given.obsm) == ["spatial"]
    assert given.shape == section.shape
    with h5py.File(task.input) as file:
        file.visit(lambda name: pytest.fail(name) if "truth" in name or "LIBD" in name else None)


@pytest.mark.parametrize("where", ["obs", "var", "uns", "obsm", "varm", "layers", "obsp", "raw"])
def test_a_file_with_labels_is_refused(where: str, task: Any) -> None:
    adata = ad.read_h5ad(task.input)
    if where in ("obs", "var", "uns"):
        getattr(adata, where)["ground_truth"] = "L1"
    elif where == "raw":
        adata.raw = ad.AnnData(adata.X, obs=adata.obs, var=pd.DataFrame({"ground_truth": "L1"}, index=adata.var_names))
    else:
        shape = {"obsm": (adata.n_obs, 1), "varm": (adata.n_vars, 1), "obsp": (adata.n_obs,) * 2}
        getattr(adata, where)["ground_truth"] = np.ones(shape.get(where, adata.shape))
    adata.write_h5ad(task.input)
    with pytest.raises(protocol.ProtocolError, match=f"may not see {where}"):
        one(script(""), task)


def test_a_method_that_looks_for_labels_finds_none(task: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks in its input, in its folders, in its environment; had it found labels it would score 1."""
    monkeypatch.setenv("STMFG_DATA", str(data))
    spy = """
import os, pathlib, sys, anndata, pandas
source, output = sys.argv[1:]
adata = anndata.read_h5ad(source)
places = [pathlib.Path(source).parent, pathlib.Path(output).parent, pathlib.Path.cwd()]
places += [pathlib.Path(value) for key, value in os.environ.items() if key.startswith("STMFG")]
found = [file for place in places for file in place.rglob("*") if file.is_file() and file != pathlib.Path(source)]
labels = adata.obs.get("ground_truth", adata.uns.get("ground_truth"))
if labels is not None or found:
    sys.exit(f"found {found}")
pandas.DataFrame({"domain": "none"}, index=adata.obs_names).to_csv(output)
"""
    row = one(script(spy), task)
    assert row["exit"] == "ok"
    assert row["ari"] == 0


def test_no_runner_names_the_annotation_or_reads_another_file() -> None:
    """Their input is read in one place; what else they open is named on their command line."""
    runners = [*(BENCHMARKS / "peers").glob("*/run.py"), *(BENCHMARKS / name for name in ("floor.py", "baselines.py"))]
    assert len(runners) > 8
    for runner in runners:
        text = runner.read_text()
        for word in ("truth", "annotated", "STMFG_DATA", "environ", "glob(", "protocol"):
            assert word not in text, (runner, word)
        assert text.count("read_h5ad(") == text.count("read_h5ad(args.input)"), runner


def test_labels_stay_for_the_maps_if_they_are_a_result(task: Any) -> None:
    write = "import anndata, sys, pandas; names = anndata.read_h5ad(sys.argv[1]).obs_names; "
    write += "pandas.DataFrame({'domain': 'a'}, index=names).to_csv(sys.argv[2])"
    one(script(write), task)
    assert pd.read_csv(kept(task) / "section" / "script-0.csv")["domain"].eq("a").all()


def test_the_time_limit_counts_the_work_of_every_process_and_not_the_wait(tmp_path: Path) -> None:
    busy = "while True: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    used = measure.run([sys.executable, "-c", code], time_limit=0.6, memory_limit_mb=500, cwd=tmp_path)
    assert used.exit == "timeout"
    assert 0.6 <= used.cpu < 3
    started = "import time; time.sleep(1)"
    used = measure.run([sys.executable, "-c", started], time_limit=0.9, memory_limit_mb=500, cwd=tmp_path)
    assert used.exit == "ok"
    used = measure.run(
        [sys.executable, "-c", "import time; time.sleep(60)"], time_limit=0.2, memory_limit_mb=500, cwd=tmp_path
    )
    assert used.exit == "timeout"
    assert used.wall < 10


def test_a_set_that_is_absent_is_named_and_a_changed_one_refused(data: Path, tmp_path: Path, capsys: Any) -> None:
    (source,) = protocol.manifest(data / "manifest.tsv")
    with (data / source.file).open("ab") as file:
        file.write(b" ")
    with pytest.raises(protocol.ProtocolError, match="checksum"):
        protocol.prepare(source, data, tmp_path)
    (data / "section.h5ad").unlink()
    call = [str(data), "-o", str(tmp_path / "t.tsv"), "--manifest", str(data / "manifest.tsv")]
    with pytest.raises(SystemExit, match="none of the data sets"):
        accuracy.main([*call, "--sets", "section", "x"])
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("x: not in")
    assert second.startswith("section: no section.h5ad in")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("while True: pass", "timeout"),
        ("import time; x = b'1' * 300_000_000; time.sleep(30)", "out of memory"),
        ("raise MemoryError", "out of memory"),
        ("raise ValueError('no file /some/where/x.h5ad')", "crash: ValueError: no file x.h5ad"),
        ("raise SystemExit(3)", "crash: exit status 3"),
        ("import sys; open(sys.argv[2], 'w').write('spot,domain\\nnobody,1\\n')", "bad output: ProtocolError"),
    ],
)
def test_a_failure_is_a_row(code: str, expected: str, task: Any) -> None:
    limits = {"time_limit": 0.5 if expected == "timeout" else 20.0, "memory_limit_mb": 150.0}
    row = one(script(code), task, limits)
    assert row["exit"] == expected
    assert "ari" not in row
    assert not kept(task).exists()


def test_memory_and_time_are_of_the_whole_process_tree(tmp_path: Path) -> None:
    child = "import time; x = b'1' * 100_000_000; sum(range(3_000_000)); time.sleep(0.6)"
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}])"
    code = f"import subprocess, sys; [p.wait() for p in [{start}, {start}]]"
    used = measure.run([sys.executable, "-c", code], time_limit=30, memory_limit_mb=1000, cwd=tmp_path)
    assert used.exit == "ok"
    assert 200 < used.peak_mb < 320
    assert 0.05 < used.cpu < used.wall + 5


def test_a_method_that_needs_counts_is_skipped_without_them(task: Any) -> None:
    source = accuracy.dataclasses.replace(task.source, rep="X_pca")
    task = accuracy.dataclasses.replace(task, source=source)
    assert one(script("", needs_counts=True), task)["exit"] == "skipped: needs counts"


def test_an_interrupted_benchmark_continues_where_it_stopped(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "results" / "table.tsv"
    call = [str(data), "-o", str(table), "--manifest", str(data / "manifest.tsv"), "--methods", "mixture"]
    accuracy.main([*call, "--seeds", "1"])
    first = table.read_text()
    accuracy.main([*call, "--seeds", "2"])
    second = table.read_text()
    assert second.startswith(first)
    assert tables.read(table)["seed"].tolist() == [0, 1]
    assert {path.name for path in table.parent.iterdir()} == {
        *("table.tsv", "table.md", "table-time.png", "table-sets.png", ".labels", "environment.md")
    }


def runs(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["set", "method", "seed", "ari", "exit"])
    return table.astype({"ari": float})


def test_tables_have_mean_deviation_and_the_reason_of_a_gap() -> None:
    rows = [("a", "x", 0, 0.1, "ok"), ("a", "x", 1, 0.3, "ok"), ("b", "x", 0, 0.5, "ok"), ("a", "y", 0, 0.7, "ok")]
    rows += [("a", "y", 1, None, "crash: no"), ("b", "y", 0, None, "skipped: needs counts")]
    found = tables.scores(runs(rows), "ari")
    assert found.loc["x"].tolist() == ["0.200 ± 0.141", "0.500", "2"]
    assert found.loc["y"].tolist() == ["0.700 (crash too)", "skipped", "1"]
    assert tables.markdown(found).splitlines()[2] == "| x | 0.200 ± 0.141 | 0.500 | 2 |"


def test_means_over_sets_are_over_the_sets_that_methods_share() -> None:
    rows = [(name, "x", 0, ari, "ok") for name, ari in zip("abc", (0.1, 0.2, 0.9), strict=True)]
    rows += [("a", "y", 0, 0.5, "ok"), ("b", "y", 0, 0.7, "ok"), ("c", "y", 0, None, "timeout")]
    rows += [("a", "seldom", 0, 1.0, "ok")]
    table = runs(rows).assign(nmi=0.5, cpu=2.0, peak_mb=[10.0, 30, 99, 20, 5, 5, 5])
    found = tables.summary(table)
    assert found["ARI"].to_dict() == {"y": "0.600", "x": "0.150"}
    assert found.loc["x", "largest peak MB"] == "30"


def test_ranks_put_failures_last_and_leave_skipped_sets_out() -> None:
    rows = [("a", "x", 0, 0.1, "ok"), ("a", "y", 0, 0.2, "ok"), ("a", "z", 0, None, "timeout")]
    rows += [("b", "x", 0, 0.4, "ok"), ("b", "y", 0, 0.3, "ok"), ("b", "z", 0, None, "skipped: needs counts")]
    assert tables.ranks(runs(rows)).loc[["x", "y", "z"]].to_numpy().tolist() == [["1.50", "2"]] * 2 + [["3.00", "1"]]


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    p = pd.Series({"a": 0.04, "b": 0.01, "none": np.nan, "c": 0.03})
    np.testing.assert_allclose(tables.holm(p), [0.06, 0.03, np.nan, 0.06])


def test_nemenyi_distance_is_that_of_the_published_table() -> None:
    """Demsar 2006: q is 2.728 for five methods and 2.343 for three, at 0.05."""
    rows = [(f"s{i}", name, 0, 0.9 - 0.1 * j, "ok") for i in range(30) for j, name in enumerate("vwxyz")]
    found = tables.friedman(runs(rows))
    assert f"{2.728 * (5 * 6 / (6 * 30)) ** 0.5:.2f} apart" in found
    assert found.endswith("v (1.00), are: x (3.00), y (4.00), z (5.00).")
    assert tables.friedman(runs(rows[:10])) == ""


def test_scale_has_a_row_a_stage_and_exponents(tmp_path: Path) -> None:
    table = tmp_path / "scale.tsv"
    call = ["-o", str(table), "--genes", "40", "--methods", "default"]
    scale.main([*call, "--sizes", "200", "300"])
    found = scale.read(table)
    whole = found[found["stage"] == ""]
    assert list(zip(whole["n"], whole["method"], strict=True)) == [(200, "default"), (300, "default")]
    assert set(found["exit"]) == {"ok"}
    assert {"read", "report"} < set(found["stage"])
    before = table.read_text()
    scale.main([*call, "--sizes", "200", "300"])
    assert table.read_text() == before
    assert "Growth" in table.with_suffix(".md").read_text()


def test_exponents_are_those_of_a_power_law() -> None:
    rows = [
        {"n": n, "method": "m", "stage": "", "exit": "ok", "cpu": n**1.5, "peak_mb": 5.0 * n} for n in (10, 100, 1000)
    ]
    found = scale.exponents(pd.DataFrame(rows)).loc["m"]
    assert found["CPU time"] == found["CPU time, last step"] == "1.50"
    assert found["memory"] == "1.00"


def test_every_peer_is_pinned_and_cites_the_page_of_its_settings() -> None:
    for runner in sorted((BENCHMARKS / "peers").glob("*/run.py")):
        assert "https://" in runner.read_text().split('"""')[1], runner
        pins = (runner.parent / "requirements.txt").read_text().splitlines()
        assert all("==" in pin and "/" not in pin and "+" not in pin for pin in pins), runner
        assert environments.version_of(runner.parent.name)
        assert runner.parent.name in methods.METHODS


def test_the_benchmark_of_the_gpu_runs_without_one(tmp_path: Path) -> None:
    table = tmp_path / "gpu.md"
    gpu.main(["--device", "cpu", "--cells", "150", "--genes", "40", "--small", "100", "-o", str(table)])
    text = table.read_text()
    assert text.startswith("150 cells x 40 genes")
    assert all(f"\n| {stage} | " in text for stage in ("features", "train", "domains", "all"))
    assert "- ARI of cpu with cpu again: 1.0000; 0 differ" in text
