"""Writes the generated tables of docs/methods.md and docs/objective.md: python docs/make_tables.py

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. The suite makes them again and compares (tests/e2e/test_tables.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.append(str(DOCS.parent / "tests"))
PAGES = ("methods.md", "objective.md")
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """Rows of one shape as a Markdown table."""
    found = list(rows)
    head = list(found[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row[key].replace("|", "\\|") for key in head) + " |" for row in found)])


def methods() -> str:
    from agentdistill.config import compose_train
    from agentdistill.methods.describe import markdown_table

    names = sorted(path.stem for path in (DOCS.parent / "configs" / "method").glob("*.yaml"))
    return markdown_table({name: compose_train([f"method={name}"]).config.method for name in names})


def divergences() -> str:
    from agentdistill.losses import DIVERGENCES

    return table(
        {
            "name": f"`{entry.name}`"
            + (f" ({', '.join(f'{key}={value:g}' for key, value in entry.defaults.items())})" if entry.takes else ""),
            "D(p, q)": entry.formula,
            "advantage A": entry.bounded,
            "character": entry.character,
            "paper": entry.paper,
        }
        for entry in DIVERGENCES.values()
    )


def _bias(name: str) -> Callable[[], str]:
    def make() -> str:
        import objective_bias

        return table(getattr(objective_bias, f"{name}_table")())

    return make


def temporal() -> str:
    from credit.sequence_tree import bias_table

    return table(
        {
            "f": str(row["name"]),
            "γ": f"{row['gamma']:g}",
            "bias": f"{row['bias']:.3f}",
            "sequence bias": f"{row['sequence_bias']:.3f}",
            "variance, sampled": f"{row['variance_sampled']:.3g}",
            "variance, full": f"{row['variance_full']:.3g}",
        }
        for row in bias_table()
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "methods": methods,
    "divergences": divergences,
    "support": _bias("support"),
    "teacher clip": _bias("teacher_clip"),
    "mismatch": _bias("mismatch"),
    "ppo clip": _bias("ppo_clip"),
    "baseline": _bias("baseline"),
    "temporal": temporal,
}


def filled(text: str) -> str:
    """The page with every table made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block['name']]()}\n{block[3]}", text)


def main() -> None:
    for page in PAGES:
        path = DOCS / page
        path.write_text(filled(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
