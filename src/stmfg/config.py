"""Every hyperparameter and its default: the only place they live.

``Config()`` is the ``default`` preset. ``Config.preset("paper")`` has what is stated of the paper (arXiv 2512.16188),
and the rest from its closest published relative, Spatial-MGCN, or by measurement: ``docs/method.md`` says which is
which, and ``docs/experiments.md`` why a default is what it is.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
import textwrap
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from stmfg.errors import InputError, closest

PRESETS: Final = ("default", "paper")
LINKED_IF_NARROW: Final = 6
"""Neighbours that a narrow spatial graph links."""
PLUG_IN: Final = "plug-in "
"""What the name of a user's own part begins with; see ``docs/extend.md``."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyperparameters of one run, stored with every result and model file."""

    # Features: what the network reads.
    features: Literal["auto", "factors", "components"] = "auto"
    """Principal components (``"components"``), or these rotated into spatial factors (``"factors"``); ``"auto"`` takes
    components for spots that are mixtures of cells and factors for single cells, see :mod:`stmfg.model.kind`."""
    n_top_genes: int = 0
    """Highly variable genes kept (seurat_v3); 0 keeps every gene seen often enough."""
    min_spot_share: float = 0.025
    """A gene counts when at least this share of the spots has it (and at least 3 spots)."""
    target_sum: float = 0.0
    """Counts per spot after normalisation; 0 is the median over spots."""
    log1p: bool = True
    """Whether to take log(1 + x) after normalisation."""
    n_components: int = 60
    """Principal components the spatial factors are made from; spots that are mixtures of cells use the leading 30."""
    factor_steps: int = 5
    """Random-walk steps on the spatial graph over which a factor must agree with its surroundings."""
    min_autocorrelation: float = 0.1
    """Factors whose correlation with their surroundings is lower are left out."""
    max_factors: int = 20
    """At most this many factors."""

    # Graphs.
    neighborhoods: Literal["auto", "wide", "narrow"] = "auto"
    """How wide neighbourhoods are, in the graph and in the averages that vote; ``"auto"`` takes narrow ones where what
    spots show is lost in their surroundings, as layers a spot or two wide are, see :mod:`stmfg.model.widths`."""
    spatial_neighbors: int = 18
    """Nearest neighbours in tissue, symmetrised with OR; 6 in narrow neighbourhoods, unless given."""
    spatial_radius: float = 0.0
    """Radius of the spatial view in spot spacings, used instead of the nearest neighbours when positive."""
    stacked: bool = False
    """Whether slices are aligned and the third coordinate joins them: neighbours are then looked for across slices."""
    feature_neighbors: int = 15
    """Nearest neighbours in expression by cosine, symmetrised with OR."""
    feature_steps: int = 1
    """Random-walk steps of spatial smoothing before the expression neighbours are found."""

    # Network.
    views: tuple[str, ...] = ("spatial", "feature")
    """Graphs convolved side by side, of ``"spatial"``, ``"feature"`` (expression), and any number of ``"NAME=KEY"``,
    whose observations are described by ``obsm[KEY]``, such as image features or protein."""
    n_layers: int = 3
    """Convolutions of each view, each followed by a fusion."""
    convolution: Literal["linear", "relu"] = "linear"
    """Mean over neighbours, without weights (``"linear"``), or trained weights and ReLU (``"relu"``)."""
    fusion: Literal["layer", "late"] = "layer"
    """Views attend to each other after every layer, or once at the end (ablation); or a user's own, see ``extend``."""
    embedding: Literal["concat", "last"] = "concat"
    """The embedding joins the fused features of every layer, or is the last layer's."""
    decoder_width: int = 64
    """Hidden width of the count decoder."""

    # Loss: half of the molecules are read, the other half is what must be predicted.
    held_out_weight: float = 1.0
    """Weight of the error of each layer in predicting the held-out factors around a spot; it moves the attention."""
    reconstruction_weight: float = 1.0
    """Weight of the likelihood of the held-out counts around a spot (zero-inflated negative binomial). Where held-out
    factors are in the loss and nothing but attention is trained, it trains the decoder alone."""
    contrastive_weight: float = 0.1
    """Weight of the contrast between the dimensions of the views of each layer."""
    spatial_weight: float = 0.1
    """Weight of the term that keeps neighbours in tissue close."""
    decoder_genes: int = 500
    """At most this many genes, the most variable, are decoded; 0 decodes all."""
    extra_losses: tuple[str, ...] = ()
    """Names of the functions that a user adds to the loss, see ``extend``."""

    # Training.
    epochs: int = 50
    """Steps; 0 leaves the network untrained, with equal weights of all views."""
    learning_rate: float = 4e-2
    """Step size of Adam; a decoder that learns alone takes a twentieth of it."""
    batch_size: int = 256
    """Spots contrasted in one step, and decoded, a quarter of them by a decoder that learns alone; 0 takes them all.
    Every step encodes all spots."""

    # Domains.
    clusterer: Literal["mixture", "kmeans", "leiden"] = "mixture"
    """Makes the clusterings that vote; or a user's own, see ``extend``."""
    n_starts: int = 4
    """Starts of one clustering; the likeliest is kept."""
    n_votes: int = 4
    """Clusterings per scale that vote on the domains; 1 with ``scales="embedding"`` is a single clustering."""
    scales: Literal["every", "embedding"] = "every"
    """Cluster the fused features of every layer and the embedding, or the embedding alone."""
    averages: bool = True
    """Whether plain averages over neighbourhoods of several widths vote beside the network."""
    refine: float = 0.0
    """How strongly neighbours in tissue are made to agree afterwards; 0 leaves the domains as they are."""
    finest_level: int = 15
    """Domains are also joined and split, to be nested for every number from 2 to this one; 0 leaves that out."""
    redraws: int = 8
    """How often the domains are found again from half of the molecules, for their confidence and for the p-values of
    markers; 0 leaves that out, and the confidence is the share of the vote."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # as JSON and TOML bring tuples
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            problem = _problem(field.name, value, field.default)
            if problem:
                raise InputError(f"{field.name} is {value!r}; it must be {problem}")
        if not self.spatial_neighbors and not self.spatial_radius:
            raise InputError("spatial_neighbors and spatial_radius are both 0; the spatial graph needs one of them")

    @classmethod
    def preset(cls, name: str) -> Config:
        """Return a preset.

        Parameters
        ----------
        name
            ``"default"`` or ``"paper"``.

        Raises
        ------
        InputError
            If there is no such preset.
        """
        if name == "default":
            return cls()
        if name == "paper":
            return cls(
                features="factors",
                spatial_radius=4.05,  # 550 px where spots are 137 px apart
                feature_neighbors=14,
                n_layers=2,
                convolution="relu",
                epochs=100,
                learning_rate=1e-2,
                n_votes=12,
                scales="embedding",
                averages=False,
            )
        raise InputError(f"preset {name!r} is unknown; choose from {', '.join(PRESETS)}")

    def replace(self, **changes: Any) -> Config:
        """Return a copy with some values changed.

        Raises
        ------
        InputError
            If a name is no hyperparameter or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                others = closest(name, [*known, *ARGUMENTS]) or f"; the options are {', '.join(sorted(known))}"
                raise InputError(f"unknown option {name!r}{others}")
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Return the hyperparameters of a record or a model file, also of earlier versions.

        Raises
        ------
        InputError
            If it has options that there never were, or no longer are, or values out of range.
        """
        values = {name: value for name, value in values.items() if _RETIRED.get(name, _NEVER) != value}
        return cls().replace(**values)

    @property
    def decodes_apart(self) -> bool:
        """Whether counts train nothing but the decoder.

        Where only attention is trained it learns from the held-out factors alone: counts sum over neighbours, so that
        their likelihood would draw it to the spatial view whatever the others say.
        """
        return bool(self.held_out_weight) and self.convolution == "linear"

    @property
    def n_linked(self) -> int:
        """Nearest neighbours in tissue that are linked: in narrow neighbourhoods fewer, unless a number is given."""
        is_narrow = self.neighborhoods == "narrow" and self.spatial_neighbors == Config.spatial_neighbors
        return LINKED_IF_NARROW if is_narrow else self.spatial_neighbors

    @property
    def view_names(self) -> tuple[str, ...]:
        """Names of the views, in order."""
        return tuple(view.partition("=")[0] for view in self.views)

    @property
    def extra_views(self) -> dict[str, str]:
        """Key in ``obsm`` of each view besides tissue and expression, by its name."""
        return {name: key for name, _, key in (view.partition("=") for view in self.views) if key}

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def _describe_fields(cls: type) -> str:
    """Return name, default and meaning of every field, as help() shows them; the meanings stand below the fields."""
    try:
        body = next(node for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef)).body
    except OSError:  # installed without the source
        return ""
    lines = []
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and field.value is not None:
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            meaning = inspect.cleandoc(str(below.value.value)) if is_text else ""  # type: ignore[attr-defined]
            lines.append(f"{ast.unparse(field.target)} = {ast.unparse(field.value)}\n")
            lines.append(f"{textwrap.indent(meaning, '    ')}\n" if meaning else "")
    return "".join(lines)


def _problem(name: str, value: Any, default: Any) -> str:
    """Say what a value must be, or nothing where it is that."""
    least = int(name in _AT_LEAST_ONE)
    if choices := CHOICES.get(name):
        plug_in = name in ("clusterer", "fusion") and isinstance(value, str) and value.startswith(PLUG_IN)
        return "" if plug_in or value in choices else "one of " + ", ".join(map(repr, choices))
    if name == "views":
        valid = isinstance(value, tuple) and value and all(isinstance(view, str) and _is_view(view) for view in value)
        valid = valid and len({view.partition("=")[0] for view in value}) == len(value)
        return "" if valid else "a tuple of different views: 'spatial', 'feature', and 'NAME=KEY' for obsm[KEY]"
    if name == "extra_losses":
        valid = isinstance(value, tuple) and all(isinstance(loss, str) for loss in value)
        return "" if valid else "a list of functions, given to STMFG or stmfg.tl"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "True or False"
    if isinstance(default, int):
        valid = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if name == "batch_size" and value == 1:
            return "0 for all spots, or at least 2"
        return "" if valid else f"an integer of at least {least}"
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf
    return "" if valid else f"a finite number of at least {least}"


def _is_view(view: str) -> bool:
    name, _, key = view.partition("=")
    return view in _VIEWS or (bool(key) and name.isidentifier() and name not in _VIEWS)


DOMAIN_OPTIONS: Final = ("clusterer", "n_starts", "n_votes", "scales", "averages", "refine", "finest_level", "redraws")
"""Hyperparameters that matter to the domains alone: a trained embedding can be clustered anew with others."""
ARGUMENTS: Final = ("n_domains", "preset", "use_rep", "layer", "library_key", "random_state", "device", "progress")
"""What goes beside hyperparameters, to be named where one of them is misspelt."""
_RETIRED: Final = {"attention_width": 16}
"""Options of earlier versions, with the value that all they did is the same as now."""
_NEVER: Final = object()
_VIEWS: Final = ("spatial", "feature")
_AT_LEAST_ONE: Final = (
    *("decoder_width", "feature_neighbors", "max_factors", "n_components", "n_layers", "n_starts", "n_votes"),
)
CHOICES: Final = {name: get_args(hint) for name, hint in get_type_hints(Config).items() if get_origin(hint) is Literal}
"""What an option can be, where it is one of a few."""
Config.__doc__ = f"{Config.__doc__}\n\n{_describe_fields(Config)}"
