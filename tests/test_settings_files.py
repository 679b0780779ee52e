"""Settings that stand in files: of one variable, or in a folder of secrets."""

import re
from pathlib import Path

import pytest

from orderup.environment import MOST_BYTES, Given
from orderup.errors import Misconfigured
from orderup.settings import Settings, given_settings, variable_of
from tests.cli.running import run

KEY = "a-key-of-thirty-two-characters-or-more"


def written(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refusal_of(**environment: str) -> str:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_environment(environment)
    return str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_variable_may_name_the_file_that_holds_its_value(tmp_path: Path, end: str) -> None:
    settings = Settings.from_environment({"SECRET_KEY_FILE": written(tmp_path / "key", KEY + end)})
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == KEY


def test_blanks_in_a_file_belong_to_the_value(tmp_path: Path) -> None:
    environment = {"SMTP_USERNAME": "ann", "SMTP_PASSWORD_FILE": written(tmp_path / "password", " two words \n")}
    password = Settings.from_environment(environment).smtp_password
    assert password is not None
    assert password.get_secret_value() == " two words "


def test_every_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    for name in Settings.model_fields:
        written(tmp_path / name, f"the value of {name}")
    in_files = given_settings({variable_of(name) + "_FILE": str(tmp_path / name) for name in Settings.model_fields})
    in_a_folder = given_settings({"ORDERUP_SECRETS_DIR": str(tmp_path)})
    assert in_files == in_a_folder
    assert in_a_folder == {name: Given(f"the value of {name}", tmp_path / name) for name in Settings.model_fields}


@pytest.mark.parametrize("name", ["WORKER_TOKEN", "worker_token"])
def test_a_folder_holds_files_named_after_variables_and_what_is_no_concern_of_ours(tmp_path: Path, name: str) -> None:
    # As Kubernetes mounts a secret: the name leads to a link to a folder that is exchanged as a whole.
    (tmp_path / "..2026_11_21").mkdir()
    (tmp_path / "..data").symlink_to("..2026_11_21")
    written(tmp_path / "..data" / name, "knead\n")
    (tmp_path / name).symlink_to(f"..data/{name}")
    written(tmp_path / "postgres_password", "of another program")
    written(tmp_path / "jira_api_token", "")
    environment = {"ORDERUP_SECRETS_DIR": str(tmp_path), "LEASE_SECONDS": "40"}
    settings = Settings.from_environment(environment)
    assert settings == Settings.model_validate({"worker_token": "knead", "lease_seconds": 40})
    assert settings.secrets == {"knead"}


def test_a_variable_that_is_set_twice_is_refused_in_every_way_of_doing_so(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    file, here = written(tmp_path / "key", KEY), written(folder / "secret_key", KEY)
    told = "SECRET_KEY is set more than once, by {} and {}. Keep one of them."
    assert refusal_of(SECRET_KEY=KEY, SECRET_KEY_FILE=file) == told.format("SECRET_KEY", f"the file {file}")
    both = refusal_of(SECRET_KEY_FILE=file, ORDERUP_SECRETS_DIR=str(folder))
    assert both == told.format(f"the file {file}", f"the file {here}")
    assert "more than once" in refusal_of(SECRET_KEY=KEY, ORDERUP_SECRETS_DIR=str(folder))
    in_capitals = written(folder / "SECRET_KEY", KEY)
    told_of_three = refusal_of(ORDERUP_SECRETS_DIR=str(folder))
    assert told_of_three == told.format(f"the file {in_capitals}", f"the file {here}")


@pytest.mark.parametrize(
    ("content", "way_out"),
    [
        (b"", "is empty. Write the value into it, or unset the variable."),
        (b"\n", "is empty."),
        (b"canary\xff", "is not text in UTF-8."),
        (b"canary\ncanary\n", "has more than one line."),
        (b"canary\0canary", "has more than one line."),
        (b"c" * (MOST_BYTES + 1), "is larger than 64 KiB."),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes, way_out: str) -> None:
    path = written(tmp_path / "token", content)
    assert refusal_of(WORKER_TOKEN_FILE=path).startswith(f"WORKER_TOKEN_FILE={path} {way_out}")


def test_a_file_that_is_not_there_or_is_none_is_refused(tmp_path: Path) -> None:
    missing, folder = tmp_path / "missing", tmp_path / "WORKER_TOKEN"
    folder.mkdir()
    told = refusal_of(WORKER_TOKEN_FILE=str(missing))
    assert told.startswith(f"WORKER_TOKEN_FILE={missing} cannot be read: No such file or directory.")
    assert "cannot be read: Is a directory." in refusal_of(WORKER_TOKEN_FILE=str(folder))
    assert refusal_of(WORKER_TOKEN_FILE="a\0b").count("cannot be read: that is no path.") == 1
    told = refusal_of(ORDERUP_SECRETS_DIR=str(tmp_path))
    assert told.startswith(f"WORKER_TOKEN in {folder} cannot be read: Is a directory.")


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    told = refusal_of(ORDERUP_SECRETS_DIR=str(tmp_path / "none"))
    assert told.startswith(f"ORDERUP_SECRETS_DIR={tmp_path / 'none'} cannot be listed: No such file or directory.")
    file = written(tmp_path / "file", "")
    assert "cannot be listed: Not a directory." in refusal_of(ORDERUP_SECRETS_DIR=file)


def test_all_files_that_are_wrong_are_told_at_once(tmp_path: Path) -> None:
    told = refusal_of(SECRET_KEY_FILE=written(tmp_path / "empty", ""), LOG_LEVEL_FILE=str(tmp_path / "missing"))
    assert re.findall(r"^\w+", told, re.MULTILINE) == ["SECRET_KEY_FILE", "LOG_LEVEL_FILE"]


@pytest.mark.parametrize(
    "name",
    ["SECRET_KEY", "WORKER_TOKEN", "DATABASE_URL", "TRUSTED_PROXIES", "LEASE_SECONDS", "LOG_FORMAT", "PUBLIC_URL"],
)
def test_no_complaint_shows_what_stands_in_a_file(tmp_path: Path, name: str) -> None:
    """Neither of a secret nor of anything else: a secret may have been written into the wrong file."""
    path = written(tmp_path / "value", "canary 7f3a")
    told = refusal_of(**{f"{name}_FILE": path, "JIRA_EMAIL": ""})
    assert name in told
    assert "canary" not in told
    assert "7f3a" not in told


def test_files_of_other_programs_are_left_alone() -> None:
    assert Settings.from_environment({"SSL_CERT_FILE": "/nowhere", "HISTORY_FILE": "/nowhere"}) == Settings()


def test_the_file_of_googles_key_is_a_path_and_may_itself_stand_in_a_file(tmp_path: Path) -> None:
    assert Settings.from_environment({"GOOGLE_CREDENTIALS_FILE": "/k.json"}).google_credentials_file == Path("/k.json")
    environment = {"GOOGLE_CREDENTIALS_FILE_FILE": written(tmp_path / "path", "/k.json\n")}
    assert Settings.from_environment(environment).google_credentials_file == Path("/k.json")


def test_doctor_says_which_file_a_setting_is_in_and_nothing_of_what_stands_there(tmp_path: Path) -> None:
    path = written(tmp_path / "retention", "17")
    key = written(tmp_path / "SECRET_KEY", KEY)
    result = run(
        "doctor",
        DATABASE_URL=f"sqlite:///{tmp_path}/orders.db",
        RETENTION_DAYS_FILE=path,
        ORDERUP_SECRETS_DIR=str(tmp_path),
        LEASE_SECONDS="41",
    )
    told = re.sub(r"\n {8}(?=\S)", " ", result.stdout)
    assert f"  ok    RETENTION_DAYS is in the file {path}\n" in told
    assert f"  ok    SECRET_KEY is in the file {key}\n" in told
    assert "  ok    LEASE_SECONDS = 41\n" in told
    assert KEY not in result.output
    assert "= 17" not in result.output


def test_doctor_names_a_file_that_is_wrong(tmp_path: Path) -> None:
    result = run("doctor", SECRET_KEY_FILE=str(tmp_path / "missing"))
    assert result.exit_code == 1
    assert "cannot be read: No such file or directory." in re.sub(r"\n {8}(?=\S)", " ", result.stdout)
