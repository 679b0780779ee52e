"""Programs that tests run themselves: nginx, Caddy and Chromium."""

import os
import shutil
from pathlib import Path

NGINX_PACKAGES = ("nginx",)
CADDY_PACKAGES = ("caddy",)
CHROMIUM_PACKAGES = ("chromium",)
# Without them Chromium asks Google's servers for this and that at every start. As root it does not run in its sandbox.
CHROMIUM_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    *(("--no-sandbox",) if os.geteuid() == 0 else ()),
)


def find_nginx() -> Path | None:
    # Debian puts it where only root's PATH looks.
    return _which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def find_caddy() -> Path | None:
    return _which("caddy")


def find_chromium() -> Path | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := _which(name))), None)


def _which(name: str, *, path: str | None = None) -> Path | None:
    found = shutil.which(name, path=path)
    return Path(found) if found else None
