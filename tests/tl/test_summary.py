"""A result in a few lines, and the names of options that other tools use."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import stmfg
from _finished import finished


def test_summary(section: AnnData, refused: Any) -> None:
    assert "run stmfg.tl.domains(adata) first" in refused(stmfg.summary, section)
    adata = finished(10)
    adata.obs["stmfg_confidence"] = np.where(adata.obs["stmfg_domain"] == "2", 0.4, 0.9).astype(np.float32)
    adata.uns["stmfg"]["n_domains"] = {"chosen": 4}
    summary = stmfg.summary(adata)
    sizes = adata.obs["stmfg_domain"].value_counts()
    assert summary.table["spots"].to_dict() == sizes.to_dict()
    assert summary.table["uncertain"].tolist() == [0, 1, 0, 0]
    lines = str(summary).splitlines()
    assert lines[0] == "4 domains of 100 spots (stMFG 0.1.0, seed 0)"
    assert lines[2] == "The number of domains, 4, was given, not chosen by the data."
    assert lines[1] == (
        f"{sizes['2'] / 100:.1%} of the spots are uncertain, with a confidence below 0.5; "
        "domain 2 the most (100% of it)."
    )
    assert repr(summary) == str(summary)  # as a notebook shows it
    adata.uns["stmfg"]["n_domains"]["sentence"] = "Four, for a reason."
    assert "Four, for a reason." in stmfg.summary(adata).sentences
    halves = {"domains": np.array(["1", "2", "3", "4"], dtype=object), "found_again": np.array([0.9, 0.41, 0.8, 0.7])}
    adata.uns["stmfg"]["halves"] = {"stmfg_domain": halves}
    summary = stmfg.summary(adata)
    assert summary.table["found again"].tolist() == [0.9, 0.41, 0.8, 0.7]
    assert summary.sentences[0] == "Domain 2 is unstable: found again in half of the molecules with an overlap of 41%."


def test_a_domain_without_a_gene_of_its_own_names_what_it_shares(section: AnnData, quick: dict[str, Any]) -> None:
    stmfg.tl.domains(section, n_domains=3, **quick)
    stmfg.tl.markers(section)
    table = section.uns["stmfg_markers"]
    shared = (table["domain"] == "2").to_numpy()
    table["specific"] = ~shared
    table.loc[shared, ["gene", "next_domain", "log2_fold_change", "share_in", "p_adjusted"]] = ["A", "3", 2, 0.5, 0.01]
    table.loc[table[shared].index[1:2], "gene"] = "B"
    assert (
        stmfg.summary(section).sentences[-1] == "No gene is specific to domain 2: it shares A, B and A with domain 3."
    )
    table.loc[shared, "p_adjusted"] = 0.5
    assert stmfg.summary(section).sentences[-1] == (
        "No gene is specific to domain 2, and none is much higher in it than in the rest of the tissue."
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [("seed", "random_state"), ("k", "n_domains"), ("n_domain", "n_domains"), ("batch_key", "library_key"),
     ("lr", "learning_rate"), ("epoch", "epochs")],
)  # fmt: skip
def test_a_near_miss_names_the_right_argument(section: AnnData, refused: Any, name: str, meant: str) -> None:
    for function in (stmfg.tl.domains, stmfg.tl.embed):
        assert refused(function, section, **{name: 3}) == f"unknown option {name!r}; did you mean {meant!r}?"


def test_the_embedding_of_others_is_used_with_a_warning(section: AnnData, quick: dict[str, Any], caplog: Any) -> None:
    stmfg.tl.domains(section, n_domains=3, **quick)
    caplog.clear()
    stmfg.tl.domains(section, n_domains=4)
    assert caplog.messages == []  # in the words of a log, not of a warning
    section.uns["stmfg"]["version"] = "0.0.1"
    stmfg.tl.domains(section, n_domains=3)
    assert "clustering the embedding that is in obsm['X_stmfg']" in caplog.text


def test_help_tells_what_each_hyperparameter_means() -> None:
    told = str(stmfg.Config.__doc__)
    assert "n_layers = 3\n    Convolutions of each view, each followed by a fusion.\n" in told
    assert all(f"\n{name} = " in told for name in stmfg.Config().to_dict())


def test_a_notebook_shows_progress(
    section: AnnData, quick: dict[str, Any], caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "stmfg")
    monkeypatch.setattr("stmfg._core.progress.is_watched", lambda: False)
    for modules, shown in (({}, False), ({"ipykernel": sys}, True)):
        monkeypatch.setattr(sys, "modules", sys.modules | modules)
        stmfg.tl.domains(section.copy(), n_domains=3, **quick)
        assert any(message.startswith("features:") for message in caplog.messages) == shown
