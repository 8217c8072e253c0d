"""The generated tables of the docs are what the code says today."""

import importlib.util
from types import ModuleType

import pytest

from agentdistill.resources import data_dir

DOCS = data_dir("configs").parent / "docs"


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["methods.md", "objective.md"])
def test_generated_tables_are_up_to_date(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    tables = maker()
    assert tables.BLOCK.search(text)
    assert tables.filled(text) == text, "run: python docs/make_tables.py"


def test_every_table_stands_on_a_page() -> None:
    tables = maker()
    there = {block["name"] for page in tables.PAGES for block in tables.BLOCK.finditer((DOCS / page).read_text("utf-8"))}
    assert there == set(tables.TABLES)
