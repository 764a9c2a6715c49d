"""Domains of samples run apart: the same ones get one letter and colour, others none, and the page says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from _finished import run_record
from stmfg.datasets import simulate, simulate_slices
from stmfg.io.sheet import Sample
from stmfg.report import write_overview


def overview(samples: dict[str, AnnData], output: Path) -> tuple[pd.DataFrame, str]:
    """Write the page over results whose domains are the truth under other numbers; return the matched domains."""
    records, truth = {}, []
    for i, (name, adata) in enumerate(samples.items()):
        names = sorted(adata.obs["ground_truth"].astype(str).unique())
        number = dict(zip(np.random.default_rng(i).permutation(names), map(str, range(1, len(names) + 1)), strict=True))
        adata.obs["stmfg_domain"] = pd.Categorical(adata.obs["ground_truth"].astype(str).map(number))
        adata.obs["stmfg_confidence"] = np.float32(0.9)
        (output / name).mkdir()
        adata.write_h5ad(output / name / "result.h5ad")
        adata.uns["stmfg"] = {"params": {}, "history": {}}
        records[name] = run_record(adata, n_domains=len(names))
        truth += [(name, domain, region) for region, domain in number.items()]
    write_overview([Sample(name, output / "in.h5ad") for name in samples], records, {}, output)
    matched = pd.read_csv(output / "matched.csv", dtype=str, keep_default_na=False)
    table = matched.merge(pd.DataFrame(truth, columns=["sample", "domain", "region"]), on=["sample", "domain"])
    return table, (output / "index.html").read_text()


def test_the_same_domains_get_one_letter_and_others_none(tmp_path: Path) -> None:
    joined = simulate_slices(3, 400, 150, n_domains=4, difficulty=0.2, random_state=1)
    samples = {name: joined[joined.obs["slice"] == name].copy() for name in joined.obs["slice"].cat.categories}
    samples["other"] = simulate(400, 150, n_domains=4, difficulty=0.2, random_state=9)
    table, page = overview(samples, tmp_path)
    assert (table.loc[table["sample"] == "other", "group"] == "").all()
    same = table[table["sample"] != "other"]
    several = same.groupby("region")["sample"].nunique()
    for region, rows in same.groupby("region"):
        letters = set(rows["group"])
        assert len(letters) == 1
        assert (letters != {""}) == (several[region] > 1)
    assert same.loc[same["group"] != "", "group"].str.cat(same["region"], na_rep="").nunique() == (several > 1).sum()
    assert f"{(table['group'] != '').sum()} of {len(table)} domains have a counterpart in another sample" in page


@pytest.mark.parametrize("k", [3, 8])
def test_unlike_tissues_are_not_matched(tmp_path: Path, k: int) -> None:
    samples = {name: simulate(300, 150, n_domains=k, random_state=i) for i, name in enumerate("abc")}
    table, page = overview(samples, tmp_path)
    assert (table["group"] == "").all()
    assert "They are too unlike to be matched" in page


def test_samples_without_counts_say_why_they_are_not_matched(tmp_path: Path) -> None:
    samples = {name: simulate(100, 15, n_domains=3, random_state=i) for i, name in enumerate("ab")}
    table, page = overview(samples, tmp_path)
    assert table.empty
    assert "share 15 genes; at least 2 samples and 20 genes are needed" in page
