"""Figures: what is drawn, where, how large, and what is said when something is missing."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from _finished import SPACING, finished
from stmfg import pl
from stmfg._core.geometry import spacing
from stmfg._core.palette import palette, stored_or_palette
from stmfg._core.spots import spots
from stmfg.errors import InputError, MissingKeyError


@pytest.fixture
def axes() -> Axes:
    return Figure(figsize=(6, 5), layout="constrained").add_subplot()


def dots(ax: Axes) -> PathCollection:
    (found,) = [c for c in ax.collections if isinstance(c, PathCollection)]
    return found


def save(ax: Axes, kind: str) -> None:
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(io.BytesIO(), format=kind)


def shades(ax: Axes) -> list[str]:
    return [to_hex(tuple(c)) for c in np.asarray(dots(ax).get_facecolor()).tolist()]


def width(collection: PathCollection) -> float:
    vertices = collection.get_paths()[0].vertices
    return float(np.ptp(np.asarray(vertices)[:, 0]))


EVERY = [pl.domains, pl.confidence, pl.embedding, pl.view_weights, pl.loss, pl.markers]


@pytest.mark.parametrize("draw", EVERY, ids=lambda f: f.__name__)
def test_every_figure_draws_on_the_given_axes_and_changes_nothing(draw: Any, axes: Axes) -> None:
    adata = finished()
    before, settings = adata.copy(), dict(mpl.rcParams.items())
    assert draw(adata, ax=axes) is axes
    save(axes, "png")
    assert {k: v for k, v in mpl.rcParams.items() if k != "backend"} == {
        k: v for k, v in settings.items() if k != "backend"
    }
    assert list(adata.uns) == list(before.uns)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


@pytest.mark.parametrize("draw", EVERY, ids=lambda f: f.__name__)
def test_every_figure_says_what_is_missing(draw: Any, axes: Axes) -> None:
    adata = finished()
    del adata.obs["stmfg_domain"], adata.obs["stmfg_confidence"], adata.uns["stmfg"]
    with pytest.raises(MissingKeyError, match=r"stmfg\.tl\.domains"):
        draw(adata, ax=axes)


def test_without_axes_new_ones_are_made() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    ax = pl.domains(finished())
    assert isinstance(ax, Axes)
    plt.close("all")


def test_domains_have_the_colour_of_their_number_and_a_legend(axes: Axes) -> None:
    adata = finished()
    pl.domains(adata, ax=axes)
    assert shades(axes) == [palette(4)[int(d) - 1] for d in adata.obs["stmfg_domain"]]
    legend = axes.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["1", "2", "3", "4"]


def test_a_subset_keeps_its_colours(axes: Axes) -> None:
    adata = finished()
    pl.domains(adata[adata.obs["stmfg_domain"] == "3"], ax=axes)
    assert set(shades(axes)) == {palette(3)[2]}


def test_stored_colours_are_used(axes: Axes) -> None:
    adata = finished()
    adata.uns["stmfg_domain_colors"] = ["#111111", "#222222", "#333333", "#444444"]
    pl.domains(adata, ax=axes)
    assert shades(axes)[0] == "#111111"


def test_other_labels_with_gaps_are_drawn_and_numbers_refused(axes: Axes) -> None:
    adata = finished()
    adata.obs["truth"] = [None] * 5 + ["white $matter$"] * (adata.n_obs - 5)
    pl.domains(adata, color="truth", ax=axes)
    legend = axes.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["white $matter$", "none"]
    with pytest.raises(InputError, match="holds numbers"):
        pl.domains(adata, color="stmfg_confidence", ax=axes)


def test_spots_have_their_true_diameter_over_the_image(axes: Axes) -> None:
    adata = finished(image=True)
    pl.domains(adata, ax=axes)
    assert width(dots(axes)) == pytest.approx(75.0)
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    height, columns = adata.uns["spatial"]["sample"]["images"]["lowres"].shape[:2]
    assert (left, top) == (-5.0, -5.0)
    assert (right - left, bottom - top) == pytest.approx((columns * 10, height * 10))
    assert axes.yaxis_inverted()
    assert axes.get_aspect() == 1.0


def test_without_scale_factors_the_size_follows_the_spacing(axes: Axes) -> None:
    pl.domains(finished(), size=0.5, ax=axes)
    assert width(dots(axes)) == pytest.approx(0.45 * SPACING)
    assert not axes.images


def test_the_image_can_be_left_out_and_must_be_one(axes: Axes) -> None:
    adata = finished(image=True)
    pl.confidence(adata, image=False, ax=axes)
    assert not axes.images
    adata.uns["spatial"]["sample"]["images"]["lowres"] = np.zeros((4, 4, 7))
    with pytest.raises(InputError, match="image=False"):
        pl.domains(adata, ax=axes)


def test_two_libraries_have_no_image_unless_one_is_chosen() -> None:
    adata = finished(image=True)
    adata.uns["spatial"]["other"] = adata.uns["spatial"]["sample"]
    assert spots(adata).image is None


@pytest.mark.parametrize(
    "picture",
    [
        np.full((9, 9), 0.5),
        np.full((9, 9, 1), 32768, dtype=np.uint16),
        np.full((9, 9, 4), 128, dtype=np.uint8),
        np.full((9, 9, 3), 0.5, dtype=np.float32),
    ],
)
def test_images_of_any_depth_become_bytes(picture: Any) -> None:
    adata = finished(image=True)
    adata.uns["spatial"]["sample"]["images"]["lowres"] = picture
    image = spots(adata).image
    assert image is not None
    assert image.shape == (9, 9, 3)
    assert image.dtype == np.uint8


def test_bins_are_squares(axes: Axes) -> None:
    adata = finished(image=True)
    adata.uns["spatial"]["sample"]["scalefactors"]["bin_size_um"] = 8.0
    pl.domains(adata, ax=axes)
    assert len(np.asarray(dots(axes).get_paths()[0].vertices)) == 5


def test_slices_are_laid_out_side_by_side() -> None:
    adata = finished()
    adata.obs["slice"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    xy = spots(adata, library_key="slice").xy
    first, second = xy[adata.obs["slice"] == "a"], xy[adata.obs["slice"] == "b"]
    assert first[:, 0].max() < second[:, 0].min()
    with pytest.raises(MissingKeyError, match="slices"):
        spots(adata, library_key="nothing")


def test_spacing_of_degenerate_positions() -> None:
    assert spacing(np.zeros((5, 2))) == 1.0
    assert spacing(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])) == 5.0


def test_many_spots_are_drawn_in_seconds(axes: Axes) -> None:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame(
        {"stmfg_domain": rng.integers(1, 9, 100_000).astype(str)}, index=np.arange(100_000).astype(str)
    )
    adata = AnnData(obs=labels, obsm={"spatial": rng.random((len(labels), 2)) * 1000})
    start = time.process_time()
    pl.domains(adata, ax=axes)
    save(axes, "pdf")
    assert time.process_time() - start < 10
    assert dots(axes).get_rasterized()


def test_view_weights_are_means_per_domain(axes: Axes) -> None:
    adata = finished()
    pl.view_weights(adata, ax=axes)
    shown = np.asarray(axes.images[0].get_array())
    mask = adata.obs["stmfg_domain"] == "2"
    assert shown[1] == pytest.approx(adata.obsm["stmfg_view_weights"][mask].mean(axis=0), abs=1e-6)
    assert next(t.get_text() for t in axes.get_xticklabels()) == "layer 1\nspatial"


def test_loss_scale_depends_on_the_sign(axes: Axes) -> None:
    adata = finished()
    assert pl.loss(adata, ax=axes).get_yscale() == "log"
    adata.uns["stmfg"]["history"]["total"] = np.array([1.0, -1.0])
    other = Figure().add_subplot()
    assert pl.loss(adata, ax=other).get_yscale() == "linear"
    adata.uns["stmfg"]["history"] = {}
    with pytest.raises(InputError, match="no loss history"):
        pl.loss(adata, ax=other)


def test_markers_of_chosen_genes(axes: Axes) -> None:
    adata = finished()
    pl.markers(adata, genes=["GENE2", "GENE0"], ax=axes)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["GENE2", "GENE0"]
    with pytest.raises(InputError, match="'NOPE' is not in var_names"):
        pl.markers(adata, genes=["NOPE"], ax=axes)
    with pytest.raises(InputError, match="no raw counts"):
        pl.markers(finished(genes=0), ax=axes)


def test_palette_is_distinct_and_stable() -> None:
    assert palette(3) == palette(24)[:3]
    assert len(set(palette(90))) == 90
    assert all(len(c) == 7 and c[0] == "#" for c in palette(90))


def test_only_plain_colours_are_believed() -> None:
    assert stored_or_palette(["#ABCDEF", "#00000080"], 2) == ["#abcdef", "#000000"]
    assert stored_or_palette(["red;background:url(x)", "#000000"], 2) == palette(2)
    assert stored_or_palette(["#000000"], 2) == palette(2)


def test_pyplot_is_not_loaded_for_given_axes() -> None:
    code = (
        "import sys\nfrom matplotlib.figure import Figure\nfrom stmfg import pl\nfrom _finished import finished\n"
        "pl.domains(finished(6), ax=Figure().add_subplot())\nsys.exit('matplotlib.pyplot' in sys.modules)"
    )
    here = str(Path(__file__).parent)
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": here}, check=False).returncode == 0


def test_the_chosen_number_of_domains_stands_out(axes: Axes) -> None:
    adata = finished()
    with pytest.raises(InputError, match="n_domains='auto'"):
        pl.n_domains(adata, ax=axes)
    adata.uns["stmfg"]["n_domains_candidates"] = np.array([3, 4, 5])
    adata.uns["stmfg"]["n_domains_evidence"] = np.array([-9.5, 0.0, -2.0])
    assert pl.n_domains(adata, ax=axes) is axes
    curve, chosen = axes.lines
    np.testing.assert_array_equal(curve.get_xdata(), [3, 4, 5])
    np.testing.assert_array_equal(chosen.get_xdata(), [4])
    save(axes, "png")


def test_every_slice_has_its_name_above_it() -> None:
    adata = finished()
    adata.obs["slice"] = np.where(np.arange(adata.n_obs) % 2, "left $1$", "right")
    where = spots(adata, library_key="slice")
    ax = pl.domains(adata, library_key="slice", ax=Figure().add_subplot())
    assert {text.get_text() for text in ax.texts} == {"left $1$", "right"}
    for text in ax.texts:
        mine = where.xy[(adata.obs["slice"] == text.get_text()).to_numpy()]
        x, y = text.get_position()
        assert mine[:, 0].min() < x < mine[:, 0].max()
        assert y < mine[:, 1].min()  # y points down
    # Two slices on the same coordinates: dots are as large as on one.
    twice = finished()
    alone = spots(twice).diameter
    joined = ad.concat({"a": twice, "b": twice}, label="slice", index_unique="_")
    assert spots(joined, library_key="slice").diameter == pytest.approx(alone)
