"""Figures: what is drawn, where, how large, and what is said when something is missing."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from _finished import PALETTE, SPACING, finished
from stmfg import pl
from stmfg.errors import InputError, MissingKeyError


@pytest.fixture
def axes() -> Axes:
    return Figure(figsize=(6, 5), layout="constrained").add_subplot()


def dots(ax: Axes) -> PathCollection:
    (collection,) = [c for c in ax.collections if isinstance(c, PathCollection)]
    return collection


def places(ax: Axes) -> np.ndarray[Any, Any]:
    return np.asarray(dots(ax).get_offsets())


def save(ax: Axes, kind: str) -> None:
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(io.BytesIO(), format=kind)


def shades(ax: Axes) -> list[str]:
    return [to_hex(tuple(c)) for c in np.asarray(dots(ax).get_facecolor()).tolist()]


def width(ax: Axes) -> float:
    return float(np.ptp(np.asarray(dots(ax).get_paths()[0].vertices)[:, 0]))


EVERY = [pl.domains, pl.confidence, pl.embedding, pl.view_weights, pl.loss, pl.markers]


@pytest.mark.parametrize("draw", EVERY, ids=lambda f: f.__name__)
def test_every_figure_draws_on_the_given_axes_and_changes_nothing(draw: Any, axes: Axes) -> None:
    adata = finished()
    before, settings = adata.copy(), dict(mpl.rcParams.items())
    assert draw(adata, ax=axes) is axes
    save(axes, "png")
    assert dict(mpl.rcParams.items()) | {"backend": ""} == settings | {"backend": ""}
    assert list(adata.uns) == list(before.uns)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


@pytest.mark.parametrize("draw", EVERY, ids=lambda f: f.__name__)
def test_every_figure_says_what_is_missing(draw: Any, axes: Axes) -> None:
    adata = finished()
    del adata.obs["stmfg_domain"], adata.obs["stmfg_confidence"], adata.uns["stmfg"]
    with pytest.raises(MissingKeyError, match=r"stmfg\.tl\.domains"):
        draw(adata, ax=axes)


def test_without_axes_new_ones_are_made() -> None:
    plt.switch_backend("agg")
    assert isinstance(pl.domains(finished()), Axes)
    plt.close("all")


def test_domains_have_the_colour_of_their_number_and_a_legend(axes: Axes) -> None:
    adata = finished()
    pl.domains(adata, ax=axes)
    assert shades(axes) == [PALETTE[int(d) - 1] for d in adata.obs["stmfg_domain"]]
    assert dots(axes).get_rasterized()  # in a file of vectors, too
    legend = axes.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["1", "2", "3", "4"]
    part = adata[adata.obs["stmfg_domain"] == "3"]
    assert set(shades(pl.domains(part, ax=Figure().add_subplot()))) == {PALETTE[2]}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (["#ABCDEF", "#00000080", "#333333", "#444444", "#555555"], "#abcdef"),
        (["red;background:url(x)", "#222222", "#333333", "#444444"], PALETTE[0]),  # a stranger's style is not believed
        (["#111111"], PALETTE[0]),
    ],
)
def test_stored_colours_are_used_where_they_are_plain_and_enough(axes: Axes, stored: list[str], expected: str) -> None:
    adata = finished()
    adata.uns["stmfg_domain_colors"] = stored
    pl.domains(adata, ax=axes)
    assert shades(axes)[0] == expected


def test_other_labels_with_gaps_are_drawn_and_numbers_refused(axes: Axes) -> None:
    adata = finished()
    adata.obs["many"] = (np.arange(adata.n_obs) % 90 + 1).astype(str)
    drawn = shades(pl.domains(adata, color="many", ax=Figure().add_subplot()))
    assert len(set(drawn)) == 90
    assert drawn[:7] == PALETTE
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
    assert width(axes) == pytest.approx(75.0)
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    height, columns = adata.uns["spatial"]["sample"]["images"]["lowres"].shape[:2]
    assert (left, top) == (-5.0, -5.0)
    assert (right - left, bottom - top) == pytest.approx((columns * 10, height * 10))
    assert axes.yaxis_inverted()
    assert axes.get_aspect() == 1.0
    adata.uns["spatial"]["sample"]["scalefactors"]["bin_size_um"] = 8.0  # bins are squares
    assert len(np.asarray(dots(pl.domains(adata, ax=Figure().add_subplot())).get_paths()[0].vertices)) == 5


def test_without_scale_factors_the_size_follows_the_spacing(axes: Axes) -> None:
    pl.domains(finished(), size=0.5, ax=axes)
    assert width(axes) == pytest.approx(0.45 * SPACING)
    assert not axes.images
    assert width(pl.domains(finished()[:1], ax=Figure().add_subplot())) == pytest.approx(0.9)
    joined = ad.concat({"a": finished(), "b": finished()}, label="slice", index_unique="_")  # in the same places
    assert width(pl.domains(joined, library_key="slice", ax=Figure().add_subplot())) == pytest.approx(0.9 * SPACING)


def test_the_image_can_be_left_out_and_must_be_one(axes: Axes, caplog: Any) -> None:
    adata = finished(image=True)
    pl.confidence(adata, image=False, ax=axes)
    adata.uns["spatial"]["other"] = adata.uns["spatial"]["sample"]  # of which none is chosen
    pl.domains(adata, ax=axes)
    assert not axes.images
    del adata.uns["spatial"]["other"]
    adata.uns["spatial"]["sample"]["images"]["lowres"] = np.zeros((5, 5, 7))
    pl.domains(adata, ax=axes)
    assert not axes.images
    assert "tissue image has shape (5, 5, 7), expected (height, width) with 1, 3 or 4 channels" in caplog.text
    adata.uns["spatial"]["sample"]["images"]["lowres"] = np.zeros((3, 9, 9))  # channels first
    assert np.shape(pl.domains(adata, ax=axes).images[0].get_array()) == (9, 9, 3)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (np.full((9, 9), 0.5), 128),
        (np.full((9, 9, 1), 32768, dtype=np.uint16), 255),
        (np.full((9, 9, 4), 128, dtype=np.uint8), 191),  # half transparent, over white
        (np.full((9, 9, 3), 0.5, dtype=np.float32), 128),
    ],
)
def test_images_of_any_depth_become_bytes(axes: Axes, picture: Any, expected: int) -> None:
    adata = finished(image=True)
    adata.uns["spatial"]["sample"]["images"]["lowres"] = picture
    image = np.asarray(pl.domains(adata, ax=axes).images[0].get_array())
    assert image.shape == (9, 9, 3)
    assert image.dtype == np.uint8
    assert (image == expected).all()


def test_slices_are_laid_out_side_by_side_with_their_names_above(axes: Axes) -> None:
    adata = finished()
    adata.obs["slice"] = np.where(np.arange(adata.n_obs) % 2, "left $1$", "right")
    pl.domains(adata, library_key="slice", ax=axes)
    xy = places(axes)
    assert xy[adata.obs["slice"] == "left $1$", 0].max() < xy[adata.obs["slice"] == "right", 0].min()
    assert {text.get_text() for text in axes.texts} == {"left $1$", "right"}
    for text in axes.texts:
        members = xy[(adata.obs["slice"] == text.get_text()).to_numpy()]
        x, y = text.get_position()
        assert members[:, 0].min() < x < members[:, 0].max()
        assert y < members[:, 1].min()  # y points down
    with pytest.raises(MissingKeyError, match="holds the slice"):
        pl.domains(adata, library_key="nothing", ax=axes)


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
    assert pl.loss(adata, ax=Figure().add_subplot()).get_yscale() == "linear"
    adata.uns["stmfg"]["history"] = {}
    with pytest.raises(InputError, match="no loss history"):
        pl.loss(adata, ax=axes)


def test_markers_of_chosen_genes(axes: Axes) -> None:
    adata = finished()
    pl.markers(adata, genes=["GENE2", "GENE0"], ax=axes)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["GENE2", "GENE0"]
    with pytest.raises(InputError, match="'NOPE' is not in var_names"):
        pl.markers(adata, genes=["NOPE"], ax=axes)
    with pytest.raises(InputError, match="no raw counts"):
        pl.markers(finished(genes=0), ax=axes)


def test_the_chosen_number_of_domains_stands_out(axes: Axes) -> None:
    adata = finished()
    with pytest.raises(InputError, match="n_domains='auto'"):
        pl.n_domains(adata, ax=axes)
    curve = {"n": np.array([3, 4, 5]), "score": np.array([0.1, 0.5, 0.4]), "chosen": 4, "rivals": np.array([5])}
    adata.uns["stmfg"]["n_domains"] = curve | {"sentence": "4 domains are best supported; 5 is nearly as good"}
    assert pl.n_domains(adata, ax=axes) is axes
    curve, rivals, chosen = axes.lines
    assert [list(line.get_xdata()) for line in (curve, rivals, chosen)] == [[3, 4, 5], [5], [4]]
    save(axes, "png")


def test_pyplot_is_not_loaded_for_given_axes() -> None:
    code = (
        "import sys\nfrom matplotlib.figure import Figure\nfrom stmfg import pl\nfrom _finished import finished\n"
        "pl.domains(finished(6), ax=Figure().add_subplot())\nsys.exit('matplotlib.pyplot' in sys.modules)"
    )
    path = ":".join([str(Path(__file__).parents[1]), *sys.path])
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0


def test_very_many_spots_are_where_they_lie_in_the_colour_of_their_domain(axes: Axes) -> None:
    side = 240  # 57,600 spots: they are painted pixel by pixel
    xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2).astype(float)
    quarter = (2 * (xy[:, 1] >= side / 2) + (xy[:, 0] >= side / 2)).astype(int).astype(str)
    adata = ad.AnnData(obs=pd.DataFrame({"part": pd.Categorical(quarter)}, index=np.arange(len(xy)).astype(str)))
    adata.obsm["spatial"] = xy
    drawn = pl.domains(adata, color="part", ax=axes, legend=False)
    figure = drawn.get_figure(root=True)
    assert figure is not None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    file.seek(0)
    picture = plt.imread(file)[::-1]  # rows from the bottom, as matplotlib counts
    column, row = drawn.transData.transform(xy).astype(int).T
    shown = [to_hex(picture[y, x]) for x, y in zip(column[::97], row[::97], strict=True)]
    colours = dict(zip("0123", dict.fromkeys(shades(axes)), strict=True))
    assert np.mean([shade == colours[part] for shade, part in zip(shown, quarter[::97], strict=True)]) > 0.98
