"""Tables of a study: tests between two methods, and the Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.stats import norm

from .aggregate import CT, NET_BENEFIT, OURS, REFERENCE, explanation_title
from .evaluation.comparison import delong_test, holm
from .evaluation.results import Results, Row
from .study import EXTERNAL, INTERNAL, Study
from .study_runs import Documents, common_runs, folds_of, labels_of


def delong_rows(
    study: Study, runs: Mapping[str, Documents], first: str = OURS, second: str = REFERENCE
) -> tuple[Row, ...]:
    """DeLong's test of every class against the rest: AUC of ``first`` minus that of ``second``.

    By CT alone, inside and outside. A patient has one score per method, the mean probability of
    its runs. Folds hold different patients and networks: differences are averaged over them, and
    variances added. Holm's correction is over all rows. A fold with fewer than two patients of a
    class, or of the rest, is left out; ``n`` tells.
    """
    if first not in runs or second not in runs:
        return ()
    labels = labels_of(study)
    own, other = common_runs(runs[first], runs[second])
    seeds = tuple(sorted({document["seed"] for document in own}))
    titles = [c.title for c in study.spec.classes]
    found = []
    for key, cohort in ((CT, f"{INTERNAL}, ct"), (EXTERNAL, EXTERNAL)):
        pairs = list(
            zip(
                folds_of(own, key, labels, study),
                folds_of(other, key, labels, study),
                strict=True,
            )
        )
        # Of two classes, both tests would be the same.
        for c in range(len(titles)) if len(titles) > 2 else [1]:
            tests = [
                delong_test(
                    a.labels == c,
                    a.probabilities.mean(axis=0)[:, c],
                    b.probabilities.mean(axis=0)[:, c],
                )
                for a, b in pairs
                if min((a.labels == c).sum(), (a.labels != c).sum()) >= 2
            ]
            if tests:
                gap = float(np.mean([t.first - t.second for t in tests]))
                error = float(np.sqrt(np.sum([t.standard_error**2 for t in tests]))) / len(tests)
                found.append((cohort, titles[c], gap, error, sum(t.n for t in tests)))
    p_values = np.array([_p_value(gap, error) for _, _, gap, error, _ in found])
    rows = []
    for (cohort, title, gap, error, n), p, corrected in zip(
        found, p_values, holm(p_values), strict=True
    ):
        said = f"DeLong p {_p_text(p)}, Holm {_p_text(corrected)}"
        name = f"AUC, {title}, gain over {second} ({said})"
        reach = float(norm.ppf(0.975)) * error
        rows.append(Row(first, cohort, None, name, gap, gap - reach, gap + reach, n, seeds))
    return tuple(rows)


def _p_value(gap: float, error: float) -> float:
    if error < 1e-12:  # the same order in both methods, or no error in either
        return 1.0 if abs(gap) < 1e-12 else 0.0
    return float(2 * norm.sf(abs(gap) / error))


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def readme_table(results: Results) -> str:
    """The main figures as a Markdown table: a method per line, 95 % intervals in brackets.

    By CT alone, inside, outside as acquired and at every dose, and inside by CT with all PET.
    ``n`` is in the header, as a range where lines differ; a method that is not finished has fewer
    patients or seeds.
    """
    inside = f"{INTERNAL}, ct"
    columns: dict[str, tuple[str, float | None, str]] = {
        "internal, macro AUC": (inside, None, "macro AUC"),
        f"gain over {REFERENCE}": (inside, None, f"macro AUC, gain over {REFERENCE}"),
        "external, macro AUC": (EXTERNAL, None, "macro AUC"),
    }
    doses = {row.dose for row in results.rows if row.cohort == EXTERNAL and row.dose}
    for dose in sorted(doses, reverse=True):
        columns[f"external, {dose:.0f} photons"] = (EXTERNAL, dose, "macro AUC")
    columns["internal, net benefit"] = (inside, None, f"{NET_BENEFIT}, macro")
    columns["attention mass"] = (inside, None, explanation_title("attention mass"))
    cohorts = {row.cohort for row in results.rows if row.cohort.startswith(inside)}
    fullest = max(sorted(cohorts, reverse=True), key=lambda name: name.count("+"), default=inside)
    if fullest != inside:
        columns["internal, CT and PET, macro AUC"] = (fullest, None, "macro AUC")
    rows = {row.key: row for row in results.rows}
    methods = list(dict.fromkeys(row.method for row in results.rows))
    cells: dict[str, list[str]] = {}
    for title, wanted in columns.items():
        own = [rows.get((method, *wanted)) for method in methods]
        if any(own):
            n = range_text(row.n for row in own if row)
            cells[f"{title} (n = {n})"] = [_cell(row, "gain" in title) for row in own]
    trained = {row.method for row in results.rows if "AUC" in row.metric}
    cells["seeds"] = [
        str(max(len(row.seeds) for row in results.rows if row.method == method))
        if method in trained
        else ""
        for method in methods
    ]
    header = [f"method{' (simulated data)' if results.simulated else ''}", *cells]
    lines = [header, ["---"] * len(header)]
    lines += [
        [method.replace("|", r"\|"), *row]
        for method, row in zip(methods, zip(*cells.values(), strict=True), strict=True)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def range_text(counts: Iterable[int]) -> str:
    """The smallest and the largest of some numbers, or the one that all are."""
    ordered = sorted(counts)
    return " to ".join(str(v) for v in dict.fromkeys((ordered[0], ordered[-1])))


def _cell(row: Row | None, signed: bool) -> str:
    if row is None:
        return ""
    form = "+.3f" if signed else ".3f"
    return f"{row.value:{form}} ({row.low:{form}} to {row.high:{form}})"
