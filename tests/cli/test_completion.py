"""Completion: the scripts complete what the commands take."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stmfg import cli


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    assert cli.main(["completion", "bash"]) == 0
    path = tmp_path / "stmfg.bash"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stmfg", "ru"], {"run"}),
        (["stmfg", "run", "--pre"], {"--preset"}),
        (["stmfg", "run", "--preset", ""], {"default", "paper"}),
        (["stmfg", "info", "--platform", "vis"], {"visium", "visiumhd"}),
        (["stmfg", "run", "--config", "lab"], {"lab.toml"}),
        (["stmfg", "info", "lab"], {"lab.toml"}),
    ],
)
def test_bash(script: Path, words: list[str], expected: set[str]) -> None:
    (script.parent / "lab.toml").touch()
    quoted = " ".join(f"'{word}'" for word in words)
    ask = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        "compopt() { :; }; "  # which bash allows while it completes
        "$(complete -p stmfg | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=script.parent, check=False)
    assert set(done.stdout.split()) == expected, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str) -> None:
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "n-domains" in text
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_another_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "csh"]) == 2
    assert "invalid choice: 'csh'" in capsys.readouterr().err
