from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from stmfg import metrics
from stmfg.errors import InputError


@pytest.fixture
def square():
    """Four pairs of points, 1 apart within a pair and 9 or more between pairs; one domain left, one right."""
    coords = np.array([[0, 0], [0, 1], [0, 10], [0, 11], [10, 0], [10, 1], [10, 10], [10, 11]], dtype=float)
    return coords, np.repeat(["left", "right"], 4)


@pytest.fixture
def halves():
    """A 20 x 20 grid cut down the middle."""
    x, y = np.meshgrid(np.arange(20.0), np.arange(20.0))
    coords = np.column_stack([x.ravel(), y.ravel()])
    return coords, np.where(coords[:, 0] < 10, "a", "b")


@pytest.mark.parametrize("score", [metrics.ari, metrics.nmi])
class TestAgainstTruth:
    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_truth_is_left_out(self, score, missing):
        truth, predicted = ["a", "b", "a", "b", "b"], [0, 0, 0, 1, 1]
        expected = score(truth, predicted)
        assert score([*truth, missing, missing], [*predicted, 0, 1]) == pytest.approx(expected)

    def test_takes_what_anndata_stores(self, score):
        truth = pd.Series(["a", "b", None, "b"], index=list("wxyz"), dtype="category")
        predicted = pd.Series(["1", "2", "2", "2"], index=list("klmn"), dtype="category")
        assert score(truth, predicted) == pytest.approx(1)
        assert score(np.array([0.0, 1.0, np.nan, 1.0]), predicted.to_numpy()) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("truth", "predicted", "message"),
        [
            (["a", "b"], ["a"], "one length, got 2 and 1"),
            ([None, np.nan], ["a", "b"], "no known entry"),
            (["a", "b"], ["a", None], "missing values, got 1 of 2"),
            ([["a"], ["b"]], ["a", "b"], r"one dimension, got shape \(2, 1\)"),
        ],
    )
    def test_unusable_input(self, score, truth, predicted, message):
        with pytest.raises(InputError, match=message):
            score(truth, predicted)


class TestChaos:
    def test_known_value(self, square):
        coords, labels = square
        expected = 1 / coords[:, 1].std(ddof=1)
        assert metrics.chaos(coords, labels) == pytest.approx(expected)

    def test_a_lone_observation_adds_nothing_but_counts(self, square):
        coords, labels = square
        labels = labels.astype(object)
        labels[[0, 1]] = ["alone", "lonely"]
        expected = 6 / 8 / coords[:, 1].std(ddof=1)
        assert metrics.chaos(coords, labels) == pytest.approx(expected)

    def test_ignores_origin_unit_and_names(self, halves):
        coords, labels = halves
        score = metrics.chaos(coords, labels)
        assert metrics.chaos(1e4 + 137 * coords, np.where(labels == "a", 5, 2)) == pytest.approx(score)

    def test_degenerate_places(self):
        assert metrics.chaos([[3.0, 4.0]], ["a"]) == 0
        assert metrics.chaos([[0, 5], [1, 5], [2, 5]], ["a", "a", "a"]) == pytest.approx(1)


class TestPas:
    def test_one_domain_has_no_abnormal_spot(self, halves):
        coords, labels = halves
        assert metrics.pas(coords, np.full(len(labels), "a")) == 0

    def test_every_lone_spot_is_abnormal(self, halves):
        coords, _ = halves
        assert metrics.pas(coords, np.arange(len(coords))) == 1

    def test_half_of_the_neighbours_is_not_enough(self):
        # Ten neighbours each: 5 unlike is normal, 6 unlike is abnormal.
        coords = np.column_stack([np.arange(11.0), np.zeros(11)])
        assert metrics.pas(coords, [0] * 6 + [1] * 5) == pytest.approx(5 / 11)

    def test_fewer_observations_than_neighbours(self):
        assert metrics.pas([[0, 0], [1, 0], [2, 0]], ["a", "a", "b"]) == pytest.approx(1 / 3)

    def test_observations_at_one_place(self):
        assert metrics.pas(np.zeros((40, 2)), np.full(40, "a")) == 0

    @pytest.mark.parametrize("n_neighbors", [0, -1])
    def test_needs_neighbours(self, halves, n_neighbors):
        with pytest.raises(InputError, match="n_neighbors"):
            metrics.pas(*halves, n_neighbors=n_neighbors)


class TestAsw:
    def test_known_value(self):
        # Outer points: a = 1, b = 10.5; inner points: a = 1, b = 9.5.
        expected = ((1 - 1 / 10.5) + (1 - 1 / 9.5)) / 2
        assert metrics.asw([[0, 0], [1, 0], [10, 0], [11, 0]], list("aabb")) == pytest.approx(expected)

    def test_sample_is_seeded_and_close(self, halves):
        coords, labels = halves
        sampled = metrics.asw(coords, labels, max_obs=200, random_state=1)
        assert sampled == metrics.asw(coords, labels, max_obs=200, random_state=1)
        assert sampled != metrics.asw(coords, labels, max_obs=200, random_state=2)
        assert sampled == pytest.approx(metrics.asw(coords, labels), abs=0.05)

    def test_undefined_is_nan(self, halves):
        coords, labels = halves
        assert np.isnan(metrics.asw(coords, np.full(len(labels), "a")))
        assert np.isnan(metrics.asw(coords, np.arange(len(labels))))


@pytest.mark.parametrize("score", [metrics.chaos, metrics.pas, metrics.asw])
class TestInSpace:
    @pytest.mark.parametrize(
        ("coords", "labels", "message"),
        [
            (np.zeros((3, 2)), ["a", "b"], r"n = 2 labels, got shape \(3, 2\)"),
            (np.zeros(2), ["a", "b"], r"got shape \(2,\)"),
            (np.zeros((0, 2)), [], "empty"),
            ([[0, np.nan], [1, 1]], ["a", "b"], "finite"),
            (np.zeros((2, 2)), ["a", None], "missing values"),
        ],
    )
    def test_unusable_input(self, score, coords, labels, message):
        with pytest.raises(InputError, match=message):
            score(coords, labels)

    def test_leaves_its_input_alone(self, score, halves):
        coords, labels = halves
        before = coords.copy(), labels.copy()
        score(coords, labels)
        np.testing.assert_array_equal(coords, before[0])
        np.testing.assert_array_equal(labels, before[1])


class TestStability:
    def test_same_partition_under_other_names(self):
        assert metrics.stability([[0, 0, 1, 1], ["b", "b", "a", "a"], [5, 5, 9, 9]]) == pytest.approx(1)

    def test_is_the_mean_over_pairs(self):
        a, b, c = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]
        pairs = [metrics.ari(a, b), metrics.ari(a, c), metrics.ari(b, c)]
        assert metrics.stability([a, b, c]) == pytest.approx(np.mean(pairs))

    @pytest.mark.parametrize(
        ("labelings", "message"),
        [([[0, 1]], "at least 2"), ([[0, 1], [0, 1, 2]], "one length"), ([[0, 1], [0, None]], "missing values")],
    )
    def test_unusable_input(self, labelings, message):
        with pytest.raises(InputError, match=message):
            metrics.stability(labelings)


def test_lisi_of_labels_apart_is_one_and_of_labels_mixed_their_number(refused: Callable[..., str]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    labels = np.repeat(["a", "b", "c"], 200)
    np.testing.assert_allclose(metrics.lisi(x + 100 * np.repeat(np.arange(3), 200)[:, None], labels), 1.0)
    mixed = metrics.lisi(x, rng.permutation(labels))
    assert 2.6 < mixed.mean() < 3.0
    assert mixed.max() <= 3.0
    assert "perplexity" in refused(metrics.lisi, x, labels, perplexity=200)
    assert "perplexity" in refused(metrics.lisi, x, labels, perplexity=0.5)


def test_lisi_of_equally_far_neighbours_is_that_of_their_shares() -> None:
    # All other points lie at one distance: every weight is the same, whatever the perplexity.
    x = np.eye(40)
    labels = np.array(["a"] * 30 + ["b"] * 10)
    found = metrics.lisi(x, labels, perplexity=13)
    assert len(np.unique(x @ x.T)) == 2
    assert ((found >= 1) & (found <= 2)).all()
    # 39 of 39 neighbours: 29 and 10 around an "a", 30 and 9 around a "b".
    expected = np.where(labels == "a", 39**2 / (29**2 + 10**2), 39**2 / (30**2 + 9**2))
    np.testing.assert_allclose(found, expected)


def test_lisi_does_not_depend_on_the_unit() -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(200, 3)), rng.integers(2, size=200)
    np.testing.assert_allclose(metrics.lisi(1e4 * x, labels), metrics.lisi(x, labels), rtol=1e-6)
