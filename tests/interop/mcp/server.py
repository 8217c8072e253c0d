"""A real server, written with the SDK: ``python server.py`` speaks over stdio, ``python server.py PORT`` over HTTP."""

from __future__ import annotations

import sys
from typing import Any

import mcp.types as types
from mcp.server import MCPServer
from mcp.server.mcpserver import Image

server = MCPServer("shop")
prices = {"pen": 3, "cup": 5}


@server.tool()
def price(item: str, count: int = 1) -> int:
    """What something costs."""
    if item not in prices:
        raise ValueError(f"there is no {item}")
    return prices[item] * count


@server.tool()
def raise_price(item: str, by: int) -> dict[str, int]:
    """Makes something dearer."""
    prices[item] = prices.get(item, 0) + by
    return prices


@server.tool(name="odd.name/ü tool")
def odd(nested: dict[str, list[int]] | None = None) -> str:
    """Has an odd name."""
    return str(nested)


@server.tool()
def picture() -> Any:
    """A picture and a word."""
    return [Image(data=b"\x89PNG", format="png"), "a word", types.ResourceLink(type="resource_link", uri="file:///x", name="x")]


@server.tool()
async def slow(seconds: float) -> str:
    """Takes its time."""
    import anyio

    await anyio.sleep(seconds)
    return "done"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        sys.stderr.write("the shop opens\n")
        server.run("stdio")
