"""The sheet of a batch: what is read from it, and one clear line for every sheet that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stmfg.io.sheet import Sample, read_samples

COLUMNS = ("n_domains", "platform", "seed", "use_rep")


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "sheet.csv").write_text(text, encoding=encoding)
    return folder / "sheet.csv"


def test_samples_in_the_order_of_the_sheet(tmp_path: Path) -> None:
    text = (
        "path,sample,condition,donor,n_domains,platform,seed,use_rep\n"
        'b/outs,late,"treated, twice",d1,7,visium,3,X_pca\n'
        "\n"
        "../a.h5ad , early ,,,auto,,,\n"
    )
    path = write(tmp_path, text)
    late, early = read_samples(path, COLUMNS)
    assert (late.name, late.source, late.donor, late.condition, late.where) == (
        "late", tmp_path / "b" / "outs", "d1", "treated, twice", f"{path} line 2",
    )  # fmt: skip
    assert late.options == {"n_domains": "7", "platform": "visium", "seed": "3", "use_rep": "X_pca"}
    assert early == Sample("early", tmp_path.parent / "a.h5ad", "", "", {"n_domains": "auto"}, f"{path} line 4")


def test_other_columns_are_kept(tmp_path: Path) -> None:
    (sample,) = read_samples(write(tmp_path, "sample,path,condition,batch,sex,sample_id\na,b,case,3,,S1\n"), COLUMNS)
    assert sample.metadata == {"condition": "case", "batch": "3", "sample_id": "S1"}


def test_paths_are_relative_to_the_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sheets").mkdir()
    write(tmp_path / "sheets", f"sample,path\na,in.h5ad\nb,{tmp_path}/there.h5ad\n")
    monkeypatch.chdir(tmp_path)
    a, b = read_samples("sheets/sheet.csv")
    assert (a.source, b.source) == (tmp_path / "sheets" / "in.h5ad", tmp_path / "there.h5ad")


def test_what_excel_writes_is_read(tmp_path: Path) -> None:
    (sample,) = read_samples(write(tmp_path, "sample,path\r\nProbe_ü,in.h5ad\r\n", "utf-8-sig"))
    assert sample.name == "Probe_ü"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"has no column 'sample' \(first line: nothing\)"),
        (
            "sample;path\na;b\n",
            r"has no column 'sample' \(first line: sample;path\); name the columns there",
        ),
        ("sample,file\na,b\n", r"has no column 'path'"),
        ("sample,path,N domain\na,b,7\n", r"has the column 'N domain'; did you mean 'n_domains'\?"),
        ("sample,path,\na,b,7\n", r"a column without a name"),
        ("sample,path,path\na,b,c\n", r"has the column 'path' twice"),
        ("sample,path\n", r"names no sample"),
        ("sample,path\na,b,c\n", r"line 2 has more cells than there are columns"),
        ("sample,path\na\n", r"line 2 has no path"),
        ("sample,path\na,b\n,c\n", r"line 3 has no sample"),
        ("sample,path\na,b\na,c\n", r"names sample 'a' twice"),
        ("sample,path\na,b\nA,c\n", r"names sample 'A' twice"),
        ("sample,path\n../a,b\n", r"line 2: sample '\.\./a' cannot be the name of a folder"),
        ("sample,path\n.a,b\n", r"cannot be the name of a folder"),
        ("sample,path\na/b,\n", r"line 2 has no path; .*; .*'a/b' cannot be the name of a folder"),
        ('sample,path\n"a\nb",b\n', r"cannot be the name of a folder"),
        ("sample,path\n" + "a" * 201 + ",b\n", r"cannot be the name of a folder"),
        ("sample,path\nsummary.csv,b\n", r"'summary\.csv' is the name of a file of the batch"),
    ],
)
def test_refused(tmp_path: Path, refused: Callable[..., str], text: str, said: str) -> None:
    line = refused(read_samples, write(tmp_path, text), COLUMNS)
    assert re.search(said, line), line


def test_all_faults_are_told_at_once(
    tmp_path: Path, refused: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "sample,path\n.a,\nb,c,d\nindex.html,e\n")
    assert refused(read_samples, path) == f"sheet {path} has 3 lines with faults, see above; nothing was started"
    told = ["line 2 has no path; fill", "line 3 has more cells", "line 4: sample 'index.html'"]
    assert all(said in message for said, message in zip(told, caplog.messages, strict=True))


def test_files_that_are_no_sheet(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "No such file" in refused(read_samples, tmp_path / "absent.csv")
    assert "cannot be read" in refused(read_samples, tmp_path)
    (tmp_path / "sheet.csv").write_bytes(b"sample,path\n\xff\xfe,b\n")
    assert "give a CSV file in UTF-8" in refused(read_samples, tmp_path / "sheet.csv")
    (tmp_path / "nul.csv").write_bytes(b"sample,path\n\0,b\n")
    refused(read_samples, tmp_path / "nul.csv")
