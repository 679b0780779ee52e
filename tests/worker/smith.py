"""A worker of the forge as a process of its own: `python -m tests.worker.smith --server URL --folder DIR …`.

It begins each task by a file named after it and the attempt, and strikes until there is a file `go`.
"""

import argparse
from datetime import timedelta
from pathlib import Path

from orderup.worker import Task, Worker
from tests.worker.visitor import until


def main(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    worker = Worker(
        "forge",
        server=arguments.server,
        region=arguments.region,
        name=arguments.name,
        transport=arguments.transport,
        grace=timedelta(seconds=arguments.grace),
    )

    async def may_finish() -> bool:
        return (folder / "go").exists()

    @worker.task("hammer")
    async def hammer(task: Task) -> dict[str, str]:
        (folder / f"{task.id}.{task.attempt}").touch()
        await until(may_finish, bool, what="it may finish")
        return {"by": worker.name}

    worker.run()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.worker.smith", description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--transport", default="http")
    parser.add_argument("--grace", type=float, default=60)
    return parser.parse_args()


if __name__ == "__main__":
    main(read_arguments())
