"""Tables of the benchmark as Markdown: mean and standard deviation per set, ranks, paired tests, time and memory.

usage: tables.py

Makes ``results/accuracy.md`` and the tables of ``docs/benchmark.md`` and ``README.md`` anew from
``results/accuracy.tsv`` and ``results/network.tsv``; a test checks that they agree.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

REFERENCE = "default"
HERE = Path(__file__).resolve().parent
TABLE = HERE / "results" / "accuracy.tsv"
NETWORK = HERE / "results" / "network.tsv"
TISSUES = {
    "dlpfc": "human cortex (DLPFC, Visium)",
    "her2st": "breast cancer (her2st arrays)",
    "st": "olfactory bulb (282 spots)",
    "starmap": "mouse cortex (STARmap)",
    "merfish": "hypothalamus (MERFISH)",
}
"""Family of a set, by how its name begins."""
DOCUMENTS = (HERE.parent / "docs" / "benchmark.md", HERE.parent / "README.md")


def read(path: Path) -> pd.DataFrame:
    """Read a table of runs."""
    return pd.read_csv(path, sep="\t", dtype={"exit": str, "version": str})


def scores(runs: pd.DataFrame, value: str, digits: int = 3) -> pd.DataFrame:
    """Mean ± standard deviation (of a sample; none for one run) over seeds: a row a method, a column a set.

    A cell without a result tells why. The last column counts the sets with a result; for means over sets, which must be
    the same sets to be compared, see ``summary``.
    """
    table = pd.DataFrame(index=runs["method"].unique(), columns=sorted(runs["set"].unique()), dtype=object)
    for (method, name), group in runs.groupby(["method", "set"]):
        table.loc[method, name] = _cell(group, value, digits)
    means = by_set(runs, value)
    table["sets"] = [str(means.loc[m].notna().sum()) for m in table.index]
    return table.fillna("")


def _cell(group: pd.DataFrame, value: str, digits: int) -> str:
    found = group.loc[group["exit"] == "ok", value].dropna()
    failed = group.loc[group["exit"] != "ok", "exit"].str.split(":").str[0].unique()
    if found.empty:
        return ", ".join(failed)
    spread = f" ± {found.std():.{digits}f}" if len(found) > 1 else ""
    return f"{found.mean():.{digits}f}{spread}" + (f" ({', '.join(failed)} too)" if len(failed) else "")


def by_set(runs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Mean over the seeds that ended well: a row a method, a column a set."""
    found = runs[value].where(runs["exit"] == "ok")
    means = found.groupby([runs["method"], runs["set"]], sort=False).mean().unstack()
    return means.reindex(index=runs["method"].unique(), columns=sorted(runs["set"].unique()))


def shared(means: pd.DataFrame) -> pd.DataFrame:
    """Keep the methods that ran on two thirds of the sets, and the sets all of these share: a fair mean."""
    means = means[3 * means.notna().sum(axis=1) >= 2 * means.shape[1]]
    return means.dropna(axis=1)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean ARI, NMI and CPU seconds and the largest peak, over the sets that the methods share."""
    ari = shared(by_set(runs, "ari"))
    means = {key: by_set(runs, key).loc[ari.index, ari.columns] for key in ("nmi", "cpu", "peak_mb")}
    table = pd.DataFrame(
        {"ARI": ari.mean(axis=1).map("{:.3f}".format), "NMI": means["nmi"].mean(axis=1).map("{:.3f}".format)}
    )
    table["CPU s"] = means["cpu"].mean(axis=1).map("{:.1f}".format)
    table["largest peak MB"] = means["peak_mb"].max(axis=1).map("{:.0f}".format)
    table = table.replace("nan", "")  # not measured
    return table.sort_values("ARI", ascending=False)


def ranks(runs: pd.DataFrame, value: str = "ari") -> pd.DataFrame:
    """Mean rank over sets, 1 the best. A failure ranks last; a set a method was not meant for is left out."""
    means = by_set(runs, value)
    skipped = runs["exit"].str.startswith("skipped").groupby([runs["method"], runs["set"]]).all().unstack()
    absent = means.isna() & skipped.reindex_like(means).isin([True, np.nan])
    placed = means.rank(ascending=False, na_option="bottom").mask(absent)
    table = pd.DataFrame({"mean rank": placed.mean(axis=1), "sets": placed.notna().sum(axis=1)})
    table = table.sort_values("mean rank")
    return table.assign(**{"mean rank": table["mean rank"].map("{:.2f}".format), "sets": table["sets"].astype(str)})


def paired(runs: pd.DataFrame, reference: str = REFERENCE, value: str = "ari") -> pd.DataFrame:
    """Compare the reference with every other method, set by set: sign test and Wilcoxon's signed rank test.

    The last column corrects for the number of methods compared.
    """
    means = by_set(runs, value)
    rows = {}
    for method in means.index.drop(reference):
        gain = (means.loc[reference] - means.loc[method]).dropna()
        wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
        if wins + losses == 0:
            continue
        sign = stats.binomtest(wins, wins + losses).pvalue
        # Below six pairs even the most one-sided result has p > 0.03: say nothing.
        signed = stats.wilcoxon(gain[gain != 0]).pvalue if wins + losses >= 6 else np.nan
        rows[method] = {
            "sets": len(gain),
            "wins": wins,
            "losses": losses,
            "median gain": f"{gain.median():+.3f}",
            "sign test p": f"{sign:.3f}",
            "Wilcoxon p": signed,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    if rows:
        table["Wilcoxon p, Holm"] = holm(table["Wilcoxon p"])
        for column in ("Wilcoxon p", "Wilcoxon p, Holm"):
            table[column] = [f"{p:.3f}" if np.isfinite(p) else "" for p in table[column]]
    return table.astype(str)


def holm(p: pd.Series) -> pd.Series:
    """Correct p values for their number (Holm 1979); missing ones do not count."""
    ordered = p.dropna().sort_values()
    steps = ordered * np.arange(len(ordered), 0, -1)
    return steps.cummax().clip(upper=1.0).reindex(p.index)


def friedman(runs: pd.DataFrame, value: str = "ari", alpha: float = 0.05) -> str:
    """Say whether the methods differ over the sets they share (Friedman), and how far ranks must be apart (Nemenyi).

    As in J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006: two methods differ
    where their mean ranks are further apart than ``q / sqrt(2) * sqrt(k (k + 1) / (6 N))``, q of the studentised range
    for k methods, N sets. A set is one observation; seeds are averaged before.
    """
    means = shared(by_set(runs, value))
    k, n = means.shape
    if k < 3 or n < 3:
        return ""
    test = stats.friedmanchisquare(*means.to_numpy())
    distance = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))
    placed = means.rank(ascending=False).mean(axis=1).sort_values()
    apart = [f"{name} ({rank:.2f})" for name, rank in placed.items() if rank - placed.iloc[0] > distance]
    said = ", ".join(apart) or "none"
    return (
        f"{k} methods on {n} sets: Friedman's test gives p = {test.pvalue:.2g}. Mean ranks {distance:.2f} apart differ "
        f"(Nemenyi, {alpha:g}); so far from the best, {placed.index[0]} ({placed.iloc[0]:.2f}), are: {said}."
    )


def markdown(table: pd.DataFrame, corner: str = "method") -> str:
    """Return a table of strings as Markdown."""
    lines = [f"| {corner} | " + " | ".join(map(str, table.columns)) + " |", "|---" * (len(table.columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, *row in table.itertuples()]
    return "\n".join(lines)


def report(runs: pd.DataFrame) -> str:
    """Return the whole report of an accuracy table."""
    parts = [
        "# Accuracy\n\nMade from the table of runs of the same name by `benchmarks/accuracy.py`. "
        "Mean ± sample standard deviation over seeds."
    ]
    sets = shared(by_set(runs, "ari")).columns
    parts.append(
        f"## Over the {len(sets)} sets that most methods share: {', '.join(sets)}\n\n{markdown(summary(runs))}"
    )
    parts += [f"## {name}\n\n{markdown(scores(runs, key))}" for name, key in (("ARI", "ari"), ("NMI", "nmi"))]
    parts.append(f"## Mean rank by ARI\n\n{markdown(ranks(runs))}\n\n{friedman(runs)}".rstrip())
    if REFERENCE in set(runs["method"]):
        parts.append(f"## `{REFERENCE}` against each method, paired over sets (ARI)\n\n{markdown(paired(runs))}")
    for title, key, digits in (
        ("CPU seconds", "cpu", 1),
        ("Wall seconds", "wall", 1),
        ("Peak MB of the process tree", "peak_mb", 0),
        ("Number of domains found", "found", 1),
        ("CHAOS (lower is smoother)", "chaos", 3),
        ("PAS (lower is smoother)", "pas", 3),
        ("Spatial ASW (higher is more compact)", "asw", 3),
    ):
        parts.append(f"## {title}\n\n{markdown(scores(runs, key, digits))}")
    return "\n\n".join(parts) + "\n"


def document(text: str, runs: pd.DataFrame) -> str:
    """Return a document with what lies between ``<!-- table NAME -->`` and ``<!-- end -->`` made anew."""
    ari = shared(by_set(runs, "ari"))
    parts = {
        "summary": f"Over the {ari.shape[1]} sets that most methods share: {', '.join(ari.columns)}\n\n"
        + markdown(summary(runs)),
        "ari": markdown(scores(runs, "ari").loc[ranks(runs).index].drop(columns="sets").T, "set"),
        "paired": f"{markdown(paired(runs))}\n\n{friedman(runs)}",
    }
    if NETWORK.is_file():
        parts["network"] = markdown(families(pd.read_csv(NETWORK, sep="\t")), "tissue")

    def fill(match: re.Match[str]) -> str:
        if match[1] not in parts:
            return match[0]
        return f"<!-- table {match[1]} -->\n\n{parts[match[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", fill, text, flags=re.DOTALL)


def families(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean ARI of the floor and of stMFG by family of tissue, and the mean over families."""
    runs = runs[(runs["part"] == "default") & runs["variant"].isin(["floor", REFERENCE])]
    means = runs.groupby(["set", "variant"])["ari"].mean().unstack()[["floor", REFERENCE]]
    grouped = means.groupby(means.index.map(lambda name: TISSUES[name.split("_")[0]]))
    values = grouped.mean().reindex(TISSUES.values())
    values.loc["mean"] = values.mean()
    table = values.map("{:.3f}".format).rename(columns={REFERENCE: "stMFG"})
    table.insert(0, "slices", [str(grouped.size().get(name, "")) for name in table.index])
    return table


def main() -> None:
    runs = read(TABLE)
    TABLE.with_suffix(".md").write_text(report(runs))
    for path in DOCUMENTS:
        path.write_text(document(path.read_text(), runs))


if __name__ == "__main__":
    main()
