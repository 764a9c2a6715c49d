"""A sheet and an output folder are looked at before the first sample runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from _commands import good, stmfg_command
from stmfg.workflow import batch


def test_all_that_is_wrong_with_a_sheet_is_said_before_the_first_sample(tmp_path: Path) -> None:
    good(tmp_path / "good.h5ad")
    (tmp_path / "cut.h5ad").write_text("cut short")
    (tmp_path / "folder").mkdir()
    rows = ["a,good.h5ad,,,", "b,gone.h5ad,,,", "c,good.h5ad,umis,,X_none", "d,cut.h5ad,,,"]
    rows += ["e,gone.h5ad,,ten,", "f,folder,,,", "g,good.h5ad,,3,"]
    (tmp_path / "s.csv").write_text("\n".join(["sample,path,layer,n_domains,use_rep", *rows]) + "\n")
    (tmp_path / "out" / "g").mkdir(parents=True)
    (tmp_path / "out" / "g" / "report.html").write_text("of another program")
    done = stmfg_command("batch", "s.csv", "-o", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    *problems, last = done.stderr.splitlines()
    assert last == "stmfg: 6 of 7 samples cannot be run, see above; nothing was started"
    expected = [
        r"s\.csv line 3: b: .*gone\.h5ad: no such file or folder",
        r"s\.csv line 4: c: .*good\.h5ad has no layers\['umis'\] \(.*\); change --layer; and no obsm\['X_none'\]",
        r"s\.csv line 5: d: .*cut\.h5ad as h5ad cannot be read",
        r"s\.csv line 6: n_domains is 'ten'.*; .*gone\.h5ad: no such file or folder",
        r"s\.csv line 7: f: .* is an empty folder",
        r"s\.csv line 8: g: .*/g holds report\.html, which no run of stMFG has left there",
    ]
    for problem, pattern in zip(problems, expected, strict=True):
        assert re.match("stmfg: ERROR: " + pattern, problem), problem
    assert [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")] == ["g", "g/report.html"]


def test_a_folder_that_cannot_be_written_or_holds_a_page_of_others(tmp_path: Path, refused: Callable[..., str]) -> None:
    good(tmp_path / "good.h5ad")
    path = tmp_path / "s.csv"
    path.write_text("sample,path\na,good.h5ad\n")
    (tmp_path / "file").write_text("in the way")
    assert "is not a folder; give another folder" in refused(batch, path, tmp_path / "file" / "out")
    for name in ("index.html", "summary.csv", "matched.csv"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("a page of others")
        assert f"holds {name}, which no batch of stMFG" in refused(batch, path, tmp_path / "out", overwrite=True)
        (tmp_path / "out" / name).unlink()
    assert list((tmp_path / "out").iterdir()) == []
    path.write_text("sample,path\na,.\n")
    assert "lies in" in refused(batch, path, tmp_path / "out")
