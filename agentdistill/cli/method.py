"""``agentdistill method``: the table of methods, and one in full."""

from __future__ import annotations

import argparse
import json

from agentdistill.config import compose_train, options
from agentdistill.config.schema import MethodConfig
from agentdistill.errors import EXIT_OK, AgentDistillError, ConfigError, unknown

COLUMNS = ("name", "signal", "access", "granularity", "needs", "paper")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        return _list(arguments.json, arguments.markdown)
    return _show(arguments.name, arguments.json)


def methods() -> dict[str, MethodConfig | str]:
    """Every method by name; a string says why one cannot be used."""
    found: dict[str, MethodConfig | str] = {}
    for name in options("method"):
        try:
            found[name] = compose_train([f"method={name}"]).config.method
        except AgentDistillError as error:
            found[name] = str(error)
    return found


def _list(as_json: bool, as_markdown: bool) -> int:
    from agentdistill.methods.describe import markdown_table, row

    found = methods()
    usable = {name: method for name, method in found.items() if not isinstance(method, str)}
    if as_json:
        rows = {name: method if isinstance(method, str) else method.model_dump(mode="json") for name, method in found.items()}
        print(json.dumps(rows, indent=2))
    elif as_markdown:
        print(markdown_table(usable))
    else:
        table = [dict(zip(COLUMNS, COLUMNS, strict=True)), *(row(name, method) for name, method in usable.items())]
        widths = {column: max(len(line[column]) for line in table) for column in COLUMNS}
        for line in table:
            print("  ".join(line[column].ljust(widths[column]) for column in COLUMNS).rstrip())
        for name, problem in found.items():
            if isinstance(problem, str):
                print(f"{name}: broken: {problem}")
    return EXIT_OK


def _show(name: str, as_json: bool) -> int:
    if name not in options("method"):
        raise ConfigError(unknown("method", name, options("method")))
    method = compose_train([f"method={name}"]).config.method
    if as_json:
        print(method.model_dump_json(indent=2))
        return EXIT_OK
    from omegaconf import OmegaConf

    from agentdistill.methods.describe import formula, knobs
    from agentdistill.methods.objective import needs_of

    print(f"{method.title}\n{method.paper}\nsignal {method.signal}, access {method.access}, granularity {method.granularity}")
    print("(p teacher, q student, y the sampled token, u = p/q, natural logarithms)\n")
    print(formula(method))
    print("\nneeds")
    for sentence in needs_of(method).in_words().values() or ["nothing but the environment's outcomes"]:
        print(f"  {sentence}")
    if method.published_with:
        told = " ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in method.published_with.items()
        )
        print(f"\npublished with (not applied: they belong to the paper's models)\n  {told}")
    print("\nknobs (method.<key>=<value> sets them)")
    print("  " + OmegaConf.to_yaml(OmegaConf.create(knobs(method))).rstrip().replace("\n", "\n  "))
    return EXIT_OK
