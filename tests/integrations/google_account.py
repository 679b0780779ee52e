"""Settings with which Google's clients speak to the sandbox."""

from typing import Any

from orderup.sandbox import Sandbox
from orderup.settings import Settings


def settings_for(sandbox: Sandbox, **more: Any) -> Settings:
    base_url = f"{sandbox.base_url}/google"
    return Settings(
        google_token_url=f"{base_url}/token",
        google_drive_url=f"{base_url}/drive/v3",
        google_docs_url=f"{base_url}/docs/v1",
        **more,
    )
