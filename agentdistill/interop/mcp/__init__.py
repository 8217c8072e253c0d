"""Servers of the Model Context Protocol as tools.

    client.py   who says what: handshake, list of tools, calls
    stdio.py    a server that is a program of ours: one process group, its pipes, its end
    http.py     a server somewhere else: streamable HTTP
    tasks.py    questions and answers from JSONL
    env.py      the environment

A small JSON-RPC client of its own, on the standard library alone: every wait has a deadline, there is no event loop and no thread, so that
an environment may be used from any thread, and what a server that misbehaves did is known to the line.
"""

from agentdistill.interop.mcp.env import MCPConfig, MCPEnv

__all__ = ["MCPConfig", "MCPEnv"]
