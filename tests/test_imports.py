"""Imports point one way: this walks them all, and keeps the picture in docs/architecture.md true.

    errors ◀─ model ◀─ db ◀─ engine ◀─┬─ web ◀─ shops ◀─┬─ cli
                                      └─ executors ◀────┘

What wants importing the wrong way usually belongs further left.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "orderup"

# A part is a folder or a file of src/orderup; what it may import besides itself. "orderup" is the package's own
# __init__.py, which shop authors import from.
LEFT = {"errors", "model", "settings", "shop"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "environment": {"errors"},
    "settings": {"errors", "environment"},
    "model": {"errors"},
    "shop": {"errors", "model"},
    "orderup": {"errors", "model", "shop"},
    "db": {"errors", "model", "settings"},
    "engine": {"errors", "model", "settings", "db"},
    "executors": LEFT | {"db", "engine"},
    "web": LEFT | {"db", "engine"},
    "shops": LEFT | {"db", "engine", "web", "integrations", "orderup"},
    # Beside them; shops call the integrations, a worker stands on another machine, the sandbox stands in for strangers.
    "integrations": {"errors", "model", "settings"},
    "worker": {"errors", "model"},
    "sandbox": set(),
    # Where Celery looks for its app, as a command of its own would be found.
    "celery": {"cli"},
}
# Builds the parts and hands them to each other.
KNOWS_EVERYTHING = "cli"


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """Who imports whom, as full module names, and where that stands."""

    importer: str
    imported: str
    line: int


def module_of(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(["orderup", *(part for part in parts if part != "__init__")])


def imports_of(path: Path, source: Path) -> Iterator[Import]:
    """Every import of orderup in one file, wherever it stands: also inside functions and under TYPE_CHECKING."""
    importer = module_of(path, source)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        for imported in imported_by(node, package):
            if imported == "orderup" or imported.startswith("orderup."):
                yield Import(importer, imported, getattr(node, "lineno", 0))


def imported_by(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *filter(None, [node.module])])
    # Of `from orderup.shops import pizza` it is the name that tells which shop.
    return [f"{base}.{alias.name}" for alias in node.names]


def part_of(module: str, source: Path) -> str:
    """The folder or file of src/orderup that a module belongs to; a name from the package's own __init__ is its."""
    _, _, below = module.partition(".")
    part = below.partition(".")[0]
    is_part = part and ((source / part).is_dir() or (source / f"{part}.py").exists())
    return part if is_part else "orderup"


def shop_of(module: str, source: Path) -> str:
    """The shop that a module below shops/ belongs to, or nothing."""
    names = module.split(".")
    return names[2] if names[1:2] == ["shops"] and len(names) > 2 and part_of(module, source) == "shops" else ""


def problem_of(found: Import, source: Path) -> str:
    """What is wrong with one import, or nothing."""
    importer, imported = part_of(found.importer, source), part_of(found.imported, source)
    where = f"{found.importer}, line {found.line}, imports {found.imported}"
    if importer == KNOWS_EVERYTHING:
        return ""
    if importer not in MAY_IMPORT:
        return f"{where}: the picture has no place for {importer!r} yet; give it one in MAY_IMPORT"
    one, other = shop_of(found.importer, source), shop_of(found.imported, source)
    if importer == imported == "shops" and one and other and one != other:
        return f"{where}: shops do not import each other; what two of them need moves left"
    if imported != importer and imported not in MAY_IMPORT[importer]:
        return f"{where}: {importer} knows only {', '.join(sorted(MAY_IMPORT[importer])) or 'nothing of ours'}"
    return ""


def wrong_imports(source: Path) -> list[str]:
    found = [found for path in sorted(source.rglob("*.py")) for found in imports_of(path, source)]
    return [problem for each in found if (problem := problem_of(each, source))]


def parts_without_a_place(source: Path) -> set[str]:
    parts = {part_of(module_of(path, source), source) for path in source.rglob("*.py")}
    return parts - MAY_IMPORT.keys() - {KNOWS_EVERYTHING}


def readers_of_the_environment(source: Path) -> list[str]:
    """Files other than cli's that touch os.environ or os.getenv."""
    return [
        f"{module_of(path, source)}, line {node.lineno}"
        for path in sorted(source.rglob("*.py"))
        if part_of(module_of(path, source), source) != KNOWS_EVERYTHING
        for node in ast.walk(ast.parse(path.read_text()))
        if reads_the_environment(node) and isinstance(node, ast.expr | ast.stmt)
    ]


def reads_the_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in names for alias in node.names)
    return (
        isinstance(node, ast.Attribute)
        and node.attr in names
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    )


def test_imports_point_one_way() -> None:
    assert wrong_imports(SOURCE) == []


def test_every_part_has_its_place_in_the_picture() -> None:
    assert parts_without_a_place(SOURCE) == set()


def test_only_the_commands_read_the_environment() -> None:
    assert readers_of_the_environment(SOURCE) == []


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A source tree with one empty module in every place that the planted mistakes speak of."""
    for name in ["__init__", "errors", "settings", "shop", "model/task", "db/write", "engine/claim", "web/front"]:
        plant(tmp_path, name, "")
    for name in ["executors/local", "worker/client", "sandbox/jira", "integrations/jira", "cli/serve", "cli/__init__"]:
        plant(tmp_path, name, "")
    for shop in ["pizza", "coffee"]:
        plant(tmp_path, f"shops/{shop}/__init__", "")
        plant(tmp_path, f"shops/{shop}/plan", "")
    return tmp_path


def plant(source: Path, name: str, text: str) -> None:
    path = source / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("errors", "from orderup.model import task"),
        ("settings", "from orderup.model import task"),
        ("model/task", "import orderup.db.write"),
        ("model/task", "from orderup.settings import Settings"),
        ("model/task", "def late():\n    from orderup.engine import claim"),
        ("model/task", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import orderup.web"),
        ("model/task", "from ..db import write"),
        ("model/task", "from .. import db"),
        ("db/write", "from orderup import engine"),
        ("engine/claim", "from orderup.executors import local"),
        ("engine/claim", "from orderup import Shop"),
        ("web/front", "from orderup.shops import pizza"),
        ("web/front", "from orderup.executors import local"),
        ("executors/local", "from orderup.web import front"),
        ("executors/local", "from orderup.shops.pizza import plan"),
        ("integrations/jira", "from orderup.db import write"),
        ("worker/client", "from orderup.engine import claim"),
        ("sandbox/jira", "from orderup.errors import NotFound"),
        ("shops/pizza/plan", "from orderup.shops.coffee.plan import brew"),
        ("shops/pizza/plan", "from orderup.shops import coffee"),
        ("shops/pizza/plan", "from ..coffee import plan"),
        ("shops/pizza/plan", "from orderup.cli import serve"),
        ("shop", "from orderup.db import write"),
        ("__init__", "from orderup.engine import claim"),
        ("new_part", "from orderup import errors"),
    ],
)
def test_a_planted_wrong_import_is_caught(planted: Path, name: str, text: str) -> None:
    plant(planted, name, text)
    assert len(wrong_imports(planted)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model/task", "from orderup.errors import NotFound\nfrom . import task"),
        ("engine/claim", "from orderup.db.write import save\nfrom ..model.task import Task"),
        ("web/front", "from orderup.engine import claim\nfrom orderup.settings import Settings"),
        ("shops/pizza/plan", "from orderup import Plan, Shop\nfrom orderup.integrations import jira"),
        (
            "shops/pizza/plan",
            "from orderup.shops.pizza import recipes\nfrom . import recipes\nfrom ...web import front",
        ),
        ("cli/serve", "from orderup.shops import coffee, pizza\nfrom orderup.sandbox import jira"),
        ("sandbox/jira", "import json\nimport orderupdate"),
    ],
)
def test_a_right_import_is_let_through(planted: Path, name: str, text: str) -> None:
    plant(planted, name, text)
    assert wrong_imports(planted) == []


def test_a_planted_part_without_a_place_is_caught(planted: Path) -> None:
    plant(planted, "utils", "")
    assert parts_without_a_place(planted) == {"utils"}


@pytest.mark.parametrize(
    "text",
    ["import os\nos.environ['A']", "from os import getenv", "import os\nos.getenv('A')", "from os import environ"],
)
def test_a_planted_look_into_the_environment_is_caught(planted: Path, text: str) -> None:
    plant(planted, "cli/serve", text)
    assert readers_of_the_environment(planted) == []
    plant(planted, "settings", text)
    assert len(readers_of_the_environment(planted)) == 1
