"""The lines of the README that order a pizza do so, as they stand there."""

import re
import shlex
from pathlib import Path

import httpx2

from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ORDERUP, Program, ServerProcess, sqlite_url

README = Path(__file__).resolve().parents[2] / "README.md"


def lines() -> list[str]:
    block: str
    [block] = [each for each in re.findall(r"```\n(.*?)```", README.read_text(), re.DOTALL) if "curl" in each]
    return block.replace("\\\n", " ").splitlines()


def curl(command: str) -> str:
    """What curl would print; of a stream, up to the delivery. Knows the options that the README uses, and no others."""
    program, *words = shlex.split(command)
    assert program == "curl"
    method, url, body, headers = "GET", "", None, {}
    while words:
        match words.pop(0):
            case "-s" | "-N":
                continue
            case "-w":
                words.pop(0)
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                body, method = words.pop(0), "POST"
            case word:
                assert not word.startswith("-"), word
                url = f"http://{word}"
    said = ""
    with httpx2.stream(method, url, content=body, headers=headers, timeout=PATIENCE_SECONDS) as answer:
        assert answer.is_success, (answer.status_code, answer.read())
        for line in answer.iter_lines():
            said += f"{line}\n"
            if "operation.completed" in line:
                break
    return said


def test_the_lines_of_the_readme_order_a_pizza_and_show_it_being_made(tmp_path: Path) -> None:
    with ServerProcess(folder=tmp_path, database_url=sqlite_url(tmp_path)) as server:
        server.start()
        simulate: list[str | Path] = [
            ORDERUP,
            "simulate",
            "pizza",
            "workers",
            "--server",
            server.back,
            "--speed",
            "100",
        ]
        with Program("workers", simulate, log=tmp_path / "workers.log").launch():
            said, id = "", ""
            for line in lines():
                here = line.replace(":8000", f":{server.front_port}").replace(":8001", f":{server.back_port}")
                if placing := re.fullmatch(r"ID=\$\((curl .*) \| cut -d '\"' -f 4\)", here):
                    id = curl(placing[1]).split('"')[3]
                else:
                    said += curl(here.replace("$ID", id))
    words = re.findall(r'"message":"([^"]+)"', said)
    assert words[:2] == ["Request received", "Approved"]
    assert words[-1] == "Delivered. Enjoy your pizza!"
