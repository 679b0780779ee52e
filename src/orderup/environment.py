"""What the environment says of each setting: the value itself, or the file that holds it.

A variable `SECRET_KEY` may be set in one of three ways: by itself; by `SECRET_KEY_FILE`, the path of a file that holds
its value; or by a file of its name, in capitals or not, in the folder that `ORDERUP_SECRETS_DIR` names. Such files are
what Docker, Kubernetes and Vault's agent hand a program its secrets by. What stands in one is never shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orderup.errors import Misconfigured

FOLDER = "ORDERUP_SECRETS_DIR"
SUFFIX = "_FILE"
# Far more than any value has, so that a wrong path, to a disk or a log, is not read into memory.
MOST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Given:
    """The value of one variable. file: where it was read, None if the variable itself has it."""

    value: str
    file: Path | None = None


def read_environment(environment: Mapping[str, str], variables: Iterable[str]) -> dict[str, Given]:
    """Those of the variables that are set. An empty variable counts as unset, and so does an empty file in the folder.

    Raises Misconfigured, which names every variable whose value cannot be had and the way out.
    """
    problems: list[str] = []
    given: dict[str, Given] = {}
    folder = _folder(environment)
    for variable in variables:
        try:
            found = list(_ways(environment, variable, folder=folder))
        except Misconfigured as error:
            problems.append(str(error))
            continue
        if len(found) > 1:
            ways = " and ".join(_shown(each, variable) for each in found)
            problems.append(f"{variable} is set more than once, by {ways}. Keep one of them.")
        elif found:
            given[variable] = found[0]
    if problems:
        raise Misconfigured("\n".join(problems))
    return given


def _folder(environment: Mapping[str, str]) -> dict[str, Path]:
    """The files of the folder, by their names."""
    named = environment.get(FOLDER, "").strip()
    if not named:
        return {}
    try:
        return {path.name: path for path in Path(named).iterdir()}
    except OSError as error:
        raise Misconfigured(
            f"{FOLDER}={named} cannot be listed: {error.strerror}. Name a folder whose files this user may read, or "
            "unset it."
        ) from error


def _ways(environment: Mapping[str, str], variable: str, *, folder: Mapping[str, Path]) -> Iterator[Given]:
    if value := environment.get(variable, "").strip():
        yield Given(value)
    if named := environment.get(variable + SUFFIX, "").strip():
        value = _read(Path(named), said_by=f"{variable}{SUFFIX}={named}")
        if not value:
            # Whoever names a file means that there is a value: an agent that has not written it yet is no "unset".
            raise Misconfigured(f"{variable}{SUFFIX}={named} is empty. Write the value into it, or unset the variable.")
        yield Given(value, Path(named))
    for name in (variable, variable.lower()):
        if name in folder and (value := _read(folder[name], said_by=f"{variable} in {folder[name]}")):
            yield Given(value, folder[name])


def _read(path: Path, *, said_by: str) -> str:
    """The one line of a file, without the newline at its end, which editors and `echo` add."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no path"
        raise Misconfigured(f"{said_by} cannot be read: {reason}. Name a file that this user may read.") from error
    if len(content) > MOST_BYTES:
        raise Misconfigured(f"{said_by} is larger than {MOST_BYTES >> 10} KiB. Name the file that holds the value.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # Not `from` it: what it tells has the content.
        raise Misconfigured(f"{said_by} is not text in UTF-8. Write the value into it as text.") from None
    line = text.removesuffix("\n").removesuffix("\r")
    if any(character in line for character in "\n\r\0"):
        raise Misconfigured(f"{said_by} has more than one line. Write nothing but the value into it.")
    return line


def _shown(given: Given, variable: str) -> str:
    return variable if given.file is None else f"the file {given.file}"
