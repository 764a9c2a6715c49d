"""The vote of clusterings, on groups that are known."""

from __future__ import annotations

import numpy as np
import pytest

from stmfg.config import Config
from stmfg.metrics import ari
from stmfg.model import cluster
from stmfg.model.averages import Base
from stmfg.model.number import Choice, choose_number
from stmfg.model.survey import survey
from stmfg.model.vote import Member, cluster_members, list_members, vote

CONFIG = Config(n_votes=2, n_starts=2)
MIDDLES = 8.0 * np.eye(4)


def groups(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw groups around the first middles: values (n, 4) and group (n,)."""
    truth = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(seed).normal(size=(len(truth), 4))
    return (MIDDLES[truth] + noise).astype(np.float32), truth


def test_of_one_slice_the_vote_is_the_consensus() -> None:
    x, truth = groups([100, 100, 100])
    shares = vote([Member(x, 2)], 3, CONFIG, 0)
    np.testing.assert_array_equal(shares, cluster.consensus(cluster_members([Member(x, 2)], 3, CONFIG, 0)))
    assert ari(truth, shares.argmax(axis=1)) == 1


def test_a_slice_keeps_lacking_a_domain_and_names_are_shared() -> None:
    (first, of_first), (second, of_second) = groups([150, 150, 150, 150]), groups([150, 150, 150], seed=1)
    libraries = np.repeat([0, 1], [len(first), len(second)])
    shares = vote([Member(np.concatenate([first, second]), 2)], 4, CONFIG, 0, libraries=libraries)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert ari(np.concatenate([of_first, of_second]), shares.argmax(axis=1)) == 1


def test_the_order_of_slices_changes_nothing() -> None:
    x, _ = groups([130, 140, 150, 160])
    libraries = np.arange(len(x)) % 2
    there = vote([Member(x, 2)], 4, CONFIG, 0, libraries=libraries)
    np.testing.assert_array_equal(there, vote([Member(x, 2)], 4, CONFIG, 0, libraries=1 - libraries))


@pytest.mark.parametrize("n_votes", [1, 2])
def test_slices_without_clusterings_of_their_own_take_the_vote_of_all(n_votes: int) -> None:
    x, _ = groups([40, 50, 60] if n_votes > 1 else [200, 200, 200])
    libraries, config = np.arange(len(x)) % 2, CONFIG.replace(n_votes=n_votes)
    shares = vote([Member(x, n_votes)], 3, config, 0, libraries=libraries)
    np.testing.assert_array_equal(shares, vote([Member(x, n_votes)], 3, config, 0))


def test_a_border_that_differs_between_slices_follows_its_slice() -> None:
    """One middle of two lies elsewhere on the second slice, so that no border suits both."""
    x, truth = groups([400, 400, 400, 400])
    libraries = (truth // 2).astype(np.int64)
    domain = truth % 2
    x = 2.2 * domain[:, None] * np.eye(4)[0] + (x - MIDDLES[truth])
    x[libraries == 1, 0] += 1.1
    x = x.astype(np.float32)
    alone = vote([Member(x, 2)], 2, CONFIG, 0).argmax(axis=1)
    labels = vote([Member(x, 2)], 2, CONFIG, 0, libraries=libraries).argmax(axis=1)
    second = libraries == 1
    assert ari(domain[second], labels[second]) > ari(domain[second], alone[second]) + 0.05


def test_more_domains_than_a_slice_has_spots() -> None:
    x, _ = groups([100, 150, 150])
    libraries = (np.arange(len(x)) % 4 == 0).astype(np.int64)
    assert vote([Member(x, 2)], 250, CONFIG.replace(n_starts=1), 0, libraries=libraries).shape == (400, 250)


def test_members_are_the_embedding_its_layers_and_averages() -> None:
    x, _ = groups([20, 20])
    plain = [np.zeros((40, 3))]
    members = list(list_members(x, [1, 3], plain, Config(n_votes=6)))
    assert [(m.values.shape[1], m.n_votes) for m in members] == [(4, 6), (1, 6), (3, 6), (3, 3)]
    assert len(list(list_members(x, [1, 3], [], Config(scales="embedding")))) == 1
    assert [m.n_votes for m in list_members(x, [4], plain, Config(n_votes=1))] == [1, 1]


def choose(values: np.ndarray, side: int) -> Choice:
    """Choose the number of domains of a square of spots."""
    places = np.stack(np.divmod(np.arange(side**2), side), axis=1).astype(np.float64)
    base = Base(values.astype(np.float32), mixtures=False)
    return choose_number(survey(base, base.values, places, None, range(2, 16), n_clusterings=24))


@pytest.mark.parametrize("k", [3, 5, 8])
def test_the_number_of_stripes_is_found(k: int) -> None:
    stripe = np.minimum(np.arange(32**2) // 32 * k // 32, k - 1)
    noise = np.random.default_rng(k).normal(size=(32**2, k))
    choice = choose(3.0 * np.eye(k)[stripe] + noise, 32)
    assert choice.chosen == k
    assert choice.sentence.startswith(f"{k} domains are best supported")


def test_the_choice_of_a_number_says_when_others_are_as_good() -> None:
    several = Choice(np.arange(2, 9), np.full(7, 0.5), np.sqrt(np.arange(7)), 4, np.array([3, 5, 6, 7]))
    assert several.sentence.startswith("The data do not tell how many domains there are: 3, 5, 6 and 7 are as well")
    one = Choice(np.arange(2, 9), np.full(7, 0.5), np.minimum(np.arange(7), 3.0), 4, np.array([5]))
    assert one.sentence == "4 domains are best supported; 5 is nearly as good; beyond 5 little is gained."
    flat = Choice(np.arange(2, 5), np.zeros(3), np.zeros(3), 2, np.array([], dtype=np.int64))
    assert flat.sentence == "2 domains are best supported, clearly more than any other number."
