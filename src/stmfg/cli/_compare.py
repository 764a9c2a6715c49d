"""``stmfg compare``: how well two tables of domains agree, and which names mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmfg.errors import InputError

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from stmfg.cli._common import Parser


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser."""
    compare = commands.add_parser(
        "compare",
        help="how well two tables of domains agree",
        description="Compare the domains of two runs, or of a run and an annotation, spot by spot.",
        epilog="A table is a .csv with the name of the spot first and its label in the column domain, or else in the "
        "second column; the folder of a run stands for its domains.csv. Example: stmfg compare seed0/ seed1/",
    )
    compare.add_argument("one", metavar="A", help="table of domains, or folder of a run")
    compare.add_argument("other", metavar="B", help="table to compare with")
    compare.set_defaults(call=call)


def call(options: dict[str, Any]) -> None:
    """Print the scores and, for every domain of A, what it is called in B."""
    from stmfg.metrics import compare

    one, other = (read_labels(options[name]) for name in ("one", "other"))
    shared = one.index.intersection(other.index)
    if shared.empty:
        first = f"first: {one.index[0]} and {other.index[0]}"
        raise InputError(f"{options['one']} and {options['other']} share no spot ({first}); give tables of one sample")
    found = compare(one[shared], other[shared])
    print(f"{found.n:,} spots in both (A has {len(one):,}, B has {len(other):,})")
    print(f"ARI {found.ari:.3f}, NMI {found.nmi:.3f}; {found.agreement:.0%} of the spots agree once names are matched")
    table, of_a = found.contingency, {a: b for b, a in found.matched.items()}
    print(f"{'A':<20} {'B':<20} {'in A':>9} {'in B':>9} {'in both':>9}")
    for name, row in table.iterrows():
        match = of_a.get(str(name))
        counts = (row.sum(), table[match].sum(), row[match]) if match is not None else (row.sum(), 0, 0)
        print(f"{name!s:<20} {match or '-':<20} " + " ".join(f"{int(count):>9,}" for count in counts))


def read_labels(path: str) -> pd.Series[Any]:
    """Read a table of domains: labels, NaN where there is none, by the name of the spot."""
    import pandas as pd

    file = Path(path).expanduser()
    file = file / "domains.csv" if file.is_dir() else file
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} cannot be read ({reason}); give a .csv of spots and domains") from error
    if table.shape[1] < 2 or table.empty:
        raise InputError(f"{file} has no two columns and a row; give a .csv of spots and domains")
    labels = table.set_index(table.columns[0])["domain" if "domain" in table.columns[1:] else table.columns[1]]
    repeated = labels.index[labels.index.duplicated()]
    if len(repeated):
        raise InputError(f"{file} has the spot {repeated[0]!r} more than once; give a table of one sample")
    return labels.where(labels != "")
