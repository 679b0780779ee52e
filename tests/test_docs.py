"""The docs say what the code does: whatever can be compared with it is compared here."""

import asyncio
import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import msgspec
import pytest
from sqlalchemy import select

from orderup import Context, Shop, errors
from orderup.cli.app import all_commands
from orderup.db.sqlite import SqliteDatabase
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.integrations.upstream import Upstream
from orderup.model.event import EVENT_TYPES
from orderup.model.ids import OperationId, show_task_id
from orderup.model.kind import Kind
from orderup.model.operation import OperationStatus
from orderup.model.placing import place
from orderup.model.plan import HIGHEST_PRIORITY, Approval, Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.rfa import RfaStatus
from orderup.model.task import TaskStatus
from orderup.settings import Settings, variable_of
from orderup.shops.pizza import plan as pizza
from orderup.web import Router, add_order_routes, back, front, live, problems, work_socket
from orderup.web.app import MountedShop, build_app
from orderup.web.engine_metrics import EngineMetrics
from orderup.web.idempotency import is_keyed
from orderup.web.metrics import Metrics
from orderup.web.routes import WEBSOCKET, RouteTable
from orderup.web.views import LiveEvent
from tests.model.arrows import arrows, walk
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.house import open_test_house, settings_for

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SHOP_PAGE = DOCS / "reference" / "shop.md"
SOURCE = ROOT / "src" / "orderup"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
Row = tuple[str, ...]
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)

# A block of code, or a code span: what looks like a link or a heading in it is none.
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"|srcset=\"([^\"]+)\"")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def read(name: str) -> str:
    return (DOCS / name).read_text()


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level, up to the next one."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {heading}"
    return found[1]


def rows(text: str) -> Iterator[Row]:
    """The rows of every table, without their heads; `code` without its marks."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        for line in table.splitlines()[2:]:
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            yield tuple(cell.strip().replace("\\|", "|") for cell in cells)


def plain(cell: str) -> str:
    return "" if cell == "–" else cell.replace("`", "")


def one_line(text: str | None) -> str:
    return " ".join((text or "").split())


@cache
def verbs_and_told() -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """Every verb, and every type of event with every status it can tell of."""
    verbs, told = set(), set()
    for step in walk():
        verbs.add(step.verb)
        told |= {(event.type, event.status) for event in step.draft.events}
    return frozenset(verbs), frozenset(told)


# states.md

NOUNS = {"operation": "Operation", "task": "Task", "rfa": "RFA"}


@pytest.mark.parametrize("noun", NOUNS)
def test_the_tables_of_arrows_are_what_driving_every_verb_through_every_state_finds(noun: str) -> None:
    told = {
        (noun, plain(row[0]), plain(row[1]), verb, plain(row[3]))
        for row in rows(section(read("states.md"), NOUNS[noun]))
        if len(row) == 5
        for verb in plain(row[2]).split(", ")
    }
    assert told == {tuple(arrow) for arrow in arrows() if arrow.noun == noun}


@pytest.mark.parametrize("noun", NOUNS)
def test_the_diagrams_have_the_arrows_of_the_tables(noun: str) -> None:
    drawn = {
        (before.replace("[*]", ""), after, verb)
        for diagram in re.findall(r"```mermaid\n(.*?)```", section(read("states.md"), NOUNS[noun]), re.DOTALL)
        for before, after, verbs in re.findall(r"^ +(\S+) --> (\S+): (.+)$", diagram, re.MULTILINE)
        for verb in verbs.split(", ")
    }
    assert drawn == {(arrow.before, arrow.after, arrow.verb) for arrow in arrows() if arrow.noun == noun}


@pytest.mark.parametrize(
    ("heading", "statuses"), [("Operation", OperationStatus), ("Task", TaskStatus), ("RFA", RfaStatus)]
)
def test_every_state_is_listed_in_order_with_what_it_means(heading: str, statuses: type[Enum]) -> None:
    listed = [row for row in rows(section(read("states.md"), heading)) if len(row) == 2]
    assert [plain(row[0]) for row in listed] == [status.value for status in statuses]
    assert all(meaning for _, meaning in listed)


def test_every_verb_is_listed_with_who_uses_it() -> None:
    listed = {verb for row in rows(read("states.md")) if len(row) == 3 for verb in plain(row[0]).split(", ")}
    assert listed == verbs_and_told()[0]


# reference/events.md


def test_every_event_type_is_listed_with_its_audience_and_its_usual_words() -> None:
    listed = {plain(row[0]): (row[1], plain(row[2])) for row in rows(read("reference/events.md")) if len(row) == 5}
    assert listed == {type: (audience.name.lower(), words) for type, (audience, words) in EVENT_TYPES.items()}


def test_every_event_type_is_listed_with_the_states_it_can_tell_of() -> None:
    listed = {
        (plain(row[0]), status)
        for row in rows(read("reference/events.md"))
        if len(row) == 5
        for status in plain(row[3]).split(", ")
    }
    assert listed == verbs_and_told()[1]


def examples() -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for block in re.findall(r"```json\n(.*?)```", read("reference/events.md"), re.DOTALL)
        for line in block.splitlines()
    ]


def test_every_event_type_has_one_example() -> None:
    assert sorted(example["type"] for example in examples()) == sorted(EVENT_TYPES)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example["type"])
def test_an_example_is_a_message_as_it_is_sent(example: dict[str, Any]) -> None:
    assert list(example) == list(LiveEvent.model_fields)
    LiveEvent.model_validate(example, strict=True)
    assert datetime.fromisoformat(example["at"]).microsecond % 1000 == 0
    assert (example["task"] is not None) is example["type"].startswith("task.")
    assert (example["type"], example["status"]) in verbs_and_told()[1]
    _audience, usual = EVENT_TYPES[example["type"]]
    words = pizza.example().words.get(example["type"], usual)
    match example["type"]:
        case "task.started":
            assert example["message"] == pizza.shop.kinds[example["task"]].says
        case "task.errored":
            assert example["message"]
        case "rfa.declined":
            assert example["message"].startswith(f"{words}: ")
        case _:
            assert example["message"] == words


def test_the_fields_of_a_message_are_explained_in_their_order() -> None:
    listed = [plain(row[0]) for row in rows(section(read("reference/events.md"), "A message"))]
    assert listed == list(LiveEvent.model_fields)


# reference/settings.md


def shown(default: object) -> str:
    if isinstance(default, Enum):
        default = default.value
    if default is None or default == ():
        return "–"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def test_every_setting_is_listed_with_its_default_and_its_own_sentence() -> None:
    expected = [
        (f"`{variable_of(name)}`", shown(field.default), one_line(field.description))
        for name, field in Settings.model_fields.items()
    ]
    assert list(rows(read("reference/settings.md"))) == expected


# reference/commands.md


def commands(group: Any, path: str = "orderup") -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


COMMANDS = dict(commands(all_commands()))


def option_row(parameter: Any) -> Row:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper() + ("…" if parameter.nargs == -1 else "")
    else:
        name = "`, `".join([*parameter.opts, *parameter.secondary_opts])
    default = "" if parameter.default is None or callable(parameter.default) else parameter.default
    value = default.value if isinstance(default, Enum) else default
    is_told = value not in {"", False} and not parameter.required
    return (f"`{name}`", f"`{value}`" if is_told else "–", one_line(parameter.help))


def test_every_command_has_its_section_and_no_other_has() -> None:
    headings = re.findall(r"^## `(orderup [^`]+)`$", read("reference/commands.md"), re.MULTILINE)
    assert headings == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_with_its_own_words_and_every_option(name: str) -> None:
    text = section(read("reference/commands.md"), f"`{name}`")
    command = COMMANDS[name]
    assert one_line(command.help.partition("\n\n")[0]) in one_line(text)
    parameters = [each for each in command.params if not getattr(each, "hidden", False) and each.name != "help"]
    assert list(rows(text)) == [option_row(parameter) for parameter in parameters]


# reference/metrics.md


def test_every_metric_is_listed_with_its_type_and_its_own_words() -> None:
    metrics = Metrics()
    EngineMetrics(Engine(SqliteDatabase(None), {}), metrics)
    expected = {
        (f"`{family.name}{'_total' if family.type == 'counter' else ''}`", family.type, family.documentation)
        for family in metrics.registry.collect()
    }
    assert set(rows(read("reference/metrics.md"))) == expected


# reference/api.md


def routes_of(table: RouteTable) -> Iterator[Row]:
    """Method and path, who may use it, whether it takes a key, as the page has them."""
    for entry in table.entries:
        if "pages" in getattr(entry.route, "tags", ()):
            continue  # guides/pages.md tells of them
        who = ", ".join(sorted(entry.access.documented_roles))
        for method in entry.methods:
            name = f"{'WS' if method == WEBSOCKET else method} {entry.path}"
            yield name, who.removeprefix("admin, "), "yes" if is_keyed(entry.endpoint) else "–"


def test_every_route_is_listed_with_who_may_use_it_and_whether_it_takes_a_key() -> None:
    orders = Router()
    add_order_routes(orders, "any", path="PATH")
    fronts = build_app("front", Settings(), shops=[MountedShop("any", orders, "")], routers=front.ROUTERS)
    backs = build_app("back", Settings(), routers=back.ROUTERS)
    listed = [
        (name.strip("`"), who, key)
        for names, who, key in rows(section(read("reference/api.md"), "Who may do what"))
        for name in names.split(", ")
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*routes_of(fronts.table), *routes_of(backs.table)}


def told_of(kind: type[errors.OrderupError]) -> problems.Problem:
    """What a caller is answered when such an error was raised, whatever its words."""
    error = kind.__new__(kind)
    if isinstance(error, errors.Invalid):
        error.field = None
    return problems.problem_of(error)


def test_every_problem_is_listed_with_its_status() -> None:
    classes = [each for module in (errors, problems) for _, each in inspect.getmembers(module, inspect.isclass)]
    told = [told_of(kind) for kind in classes if issubclass(kind, errors.OrderupError)]
    listed = {(plain(row[0]), row[1]) for row in rows(section(read("reference/api.md"), "Problems"))}
    assert listed == {
        (problem.type.removeprefix("urn:orderup:problem:"), str(problem.status))
        for problem in told
        if problem.type != "about:blank"
    }


def test_every_close_code_of_ours_is_listed() -> None:
    ours = {*problems.CLOSE_CODES.values(), live.PAST_RETENTION, live.GOING_AWAY, work_socket.REPLACED}
    listed = {int(row[0]) for row in rows(section(read("reference/api.md"), "Following, and coming back"))}
    assert ours <= listed


# glossary.md

TERM = re.compile(r"^\*\*([^*]+)\*\*(?: \([^)]*\))? — ", re.MULTILINE)


def test_the_glossary_has_each_word_once_and_in_order() -> None:
    words = [word.lower() for word in TERM.findall(read("glossary.md"))]
    assert words == sorted(set(words))


# decisions/

DECISIONS = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")


def test_decisions_are_numbered_without_a_gap_and_all_are_in_the_index() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
    listed = re.findall(r"^\| \[(\d+)\]\(([^)]+)\) \|", read("decisions/README.md"), re.MULTILINE)
    assert listed == [(str(number), path.name) for number, path in enumerate(DECISIONS, 1)]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_the_form_and_half_a_page(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.search(r"^\*\*Status:\*\* (proposed|accepted|superseded by \[\d+\])", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.split()) <= 400


# architecture.md


def test_the_architecture_has_a_line_for_each_folder() -> None:
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    listed = {plain(row[0]).strip("/") for row in rows(section(read("architecture.md"), "The folders"))}
    assert folders <= listed


def test_every_file_that_a_page_names_is_there() -> None:
    missing = [
        (str(page.relative_to(ROOT)), name)
        for page in PAGES
        for name in re.findall(r"`([a-z_.]+(?:/[\w.-]+)*/[\w.-]+\.(?:py|md|toml|txt|html|svg))`", page.read_text())
        if not any((base / name).exists() for base in (ROOT, SOURCE, DOCS))
    ]
    assert missing == []


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.svg")), ids=lambda path: path.name)
def test_a_picture_says_what_it_shows_and_suits_light_and_dark(path: Path) -> None:
    text = path.read_text()
    names = [child.tag.rpartition("}")[2] for child in ET.fromstring(text)]  # noqa: S314  our own file
    assert names[:2] == ["title", "desc"]
    assert "prefers-color-scheme: dark" in text


# README.md


def test_the_readme_shows_the_whole_shop_that_the_guide_explains() -> None:
    [shown] = PYTHON.findall((ROOT / "README.md").read_text())
    assert shown == PYTHON.findall(read("guides/write-a-shop.md"))[0]


def names_listed(heading: str) -> set[str]:
    """In the first column of the tables below a heading of the page about shops."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", SHOP_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    cells = re.findall(r"^\| (`[^|]*) \|", section[1], re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def parameters_of(*functions: Any) -> set[str]:
    found = {name for each in functions for name in inspect.signature(each).parameters}
    return found - {"self", "method", "path"}


def attributes_of(kind: type) -> set[str]:
    named = {name for each in kind.__mro__ for name in (*vars(each), *getattr(each, "__annotations__", {}))}
    return {name for name in named if not name.startswith("_")}


def test_the_page_about_shops_lists_what_there_is_to_be_given() -> None:
    assert names_listed("`Shop`") == {field.name for field in dataclasses.fields(Shop)}
    assert names_listed("A kind of task") == {*Kind.__struct_fields__} - {"name", "is_remote", "has_handler"}
    assert names_listed("`Retry`") == {*Retry.__struct_fields__}
    assert names_listed("Plans") == {*PlannedTask.__struct_fields__, *Approval.__struct_fields__}
    plain = {re.sub(r"^await |\(.*", "", name) for name in names_listed("`Context`")}
    assert plain == attributes_of(Context)
    given = {name for name in names_listed("`Upstream`") if "(" not in name}
    assert given == parameters_of(Upstream.__init__, Upstream.call)


def test_the_readme_lists_the_shops_that_are_there() -> None:
    listed = [row[0] for row in rows(section((ROOT / "README.md").read_text(), "Shops"))]
    installed = sorted(point.name for point in entry_points(group="orderup.shops"))
    assert listed == [f"[`{name}`](docs/shops/{name}.md)" for name in installed]


# guides/write-a-shop.md


def locksmith(folder: Path) -> ModuleType:
    """All that the guide shows, as one module."""
    path = folder / "locksmith.py"
    path.write_text("\n\n".join(PYTHON.findall(read("guides/write-a-shop.md"))))
    spec = spec_from_file_location("locksmith", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_what_the_guide_remembers_writes_down_and_limits_is_done(tmp_path: Path) -> None:
    shown = locksmith(tmp_path)
    plan = Plan.chain(PlannedTask("charge"), PlannedTask("note_sale", params={"copies": 3}), PlannedTask("gild"))
    async with open_test_house(settings_for(tmp_path), shops=[shown.shop]) as house, asyncio.timeout(PATIENCE_SECONDS):
        operation = await place_order(house.engine, "locksmith", plan)
        async with aclosing(house.engine.feed.follow(operation_id=operation.id)) as batches:
            async for batch in batches:
                if batch[-1].type == "operation.completed":
                    break
        found = await house.database.read(lambda connection: connection.rows(select(shown.sales)))
        assert [tuple(row) for row in found] == [(operation.id, 3)]
        done = (await house.database.load([operation.id]))[operation.id]
        assert msgspec.json.decode(done.tasks[0].result or b"") == f"charged under {show_task_id(operation.id, 0)}"


def test_the_plans_that_the_guide_shows_can_be_placed(tmp_path: Path) -> None:
    shown = locksmith(tmp_path)
    order = shown.KeyOrder(profile="AB12")
    plans = [
        shown.plan_safe(order),
        shown.plan_two_kinds(order),
        shown.plan_visit("1 Lock Lane"),
        shown.plan_urgent(order),
    ]
    for plan in [*plans, *(schedule.plan() for schedule in shown.shop.schedules.values())]:
        draft = place(plan, id=OperationId(1), shop="locksmith", kinds=shown.shop.kinds, now=0, rfa_within=DAY)
        assert len(draft.result().tasks) == len(plan.tasks)


@pytest.mark.parametrize(
    ("words", "is_so"),
    [
        ("five attempts in all unless told otherwise", Retry().attempts == 5),
        ("of up to 1 s, 2 s, 4 s and so on, up to 5 minutes", (Retry().first, Retry().longest) == (SECOND, 5 * MINUTE)),
        ("of one attempt of a handler, 5 minutes unless told otherwise", Kind("any").timeout == 5 * MINUTE),
        ("all attempts and waits together; 24 hours unless told otherwise", Kind("any").within == DAY),
        ("from -1,000,000 to 1,000,000; 0 unless told otherwise", HIGHEST_PRIORITY == 1_000_000),
    ],
)
def test_the_numbers_that_the_guide_tells_are_those_of_the_code(words: str, is_so: bool) -> None:  # noqa: FBT001
    assert words in one_line(read("guides/write-a-shop.md"))
    assert is_so


# every page


def for_the_shell(name: str) -> str:
    """What a page shows that may be typed in: its blocks of no language, and its code spans."""
    text = (ROOT / name).read_text()
    blocks = [code for language, code in BLOCK.findall(text) if not language]
    return "\n".join([*blocks, *re.findall(r"`[^`\n]+`", BLOCK.sub("", text))])


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_a_page_names_is_there(name: str) -> None:
    named = re.findall(r"(?<![\w./:-])orderup ([a-z]+)(?: ([a-z]+))?\b", for_the_shell(name))
    # one word, or two of a command in a group
    wrong = [words for words in named if not {f"orderup {words[0]}", f"orderup {' '.join(words)}"} & set(COMMANDS)]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_every_target_of_make_that_a_page_names_is_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", for_the_shell(name))) <= targets


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = HEADING.findall(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    broken = []
    for groups in LINK.findall(CODE.sub("", page.read_text())):
        target, _, anchor = "".join(groups).partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        found = page if not target else page.parent / unquote(target)
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append("".join(groups))
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_no_page_names_a_path_of_somebodys_machine(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.findall(r"(?<![\w.:/])/(?:work|tmp|root|home|Users|mnt|srv|opt)/[\w./-]*", text) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/")])
def test_a_page_can_be_reached_from_the_index(name: str) -> None:
    reached = {DOCS / "README.md"}
    waiting = [DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        for groups in LINK.findall(page.read_text()):
            target = (page.parent / "".join(groups).partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                waiting.append(target)
    assert ROOT / name in reached
