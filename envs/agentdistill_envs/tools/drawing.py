"""A task as a graph: what is told, the calls of its plan, what each makes known."""

from __future__ import annotations

import networkx as nx

from agentdistill_envs.tools.catalogue import TOOLS
from agentdistill_envs.tools.plan import learned
from agentdistill_envs.tools.progress import Goal, Progress


def task_graph(goal: Goal) -> nx.DiGraph[str]:
    """Values and calls of one shortest plan. Node attribute ``kind``: ``given``, ``look``, ``value``, ``change``, ``answer``; ``step``: the
    1-based place of a call in the plan."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for value in sorted(goal.known):
        graph.add_node(value, kind="given")
    progress = Progress(goal)
    plan = progress.plan() or ()
    for step, call in enumerate(plan, start=1):
        graph.add_node(str(call), kind="change" if TOOLS[call.tool].changes else "look", step=step)
        graph.add_edges_from((value, str(call)) for value in call.needs)
        needed = {value for later in plan[step:] for value in later.needs}
        for value in learned(call.tool, progress.call(call.tool, dict(call.arguments))):
            if value in needed and value not in graph:
                graph.add_node(value, kind="value")
                graph.add_edge(str(call), value)
    if goal.asks is not None:
        graph.add_node(f"= {goal.answer}", kind="answer")
        graph.add_edge(str(goal.asks), f"= {goal.answer}")
    return graph
