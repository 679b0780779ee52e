"""`orderup sandbox`: what stands in for third parties, until a signal."""

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from orderup.cli.app import command
from orderup.errors import Misconfigured

if TYPE_CHECKING:
    from orderup.sandbox import Sandbox


@command()
def sandbox(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; the next free one if it is taken. 0: any.")
    ] = 8002,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than life delays pass.")] = 1,
    host: Annotated[str, typer.Option(help="The address to listen on; one beyond this machine only with --name.")] = (
        "127.0.0.1"
    ),
    name: Annotated[
        list[str] | None, typer.Option(help="A name by which it may be called as well, such as its container's.")
    ] = None,
) -> None:
    """Stand in for the third parties that shops talk to, on this machine, each as faulty as you switch it."""
    import uvloop

    from orderup.web.loopback import is_loopback

    names = name or []
    if not is_loopback(host):
        if not names:
            raise Misconfigured(
                f"Nobody who reaches the sandbox at {host} could call it by a name that it answers to. "
                "Say it with --name, or leave out --host."
            )
        typer.echo(
            f"Careful: whoever reaches {host}:{port} reads what arrived and switches every fault. "
            "Let nobody into its network but those who are to ask it.",
            err=True,
        )
    uvloop.run(_serve(port, speed=speed, host=host, names=names))


async def _serve(port: int, *, speed: float, host: str, names: list[str]) -> None:
    from orderup.sandbox import serve_sandbox

    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    try:
        async with serve_sandbox(port, scale=speed, host=host, names=names) as sandbox:
            typer.echo(_described(sandbox, wanted=port))
            await stop.wait()
    except OSError as error:
        raise Misconfigured(f"The sandbox cannot listen: {error.strerror}. Choose another port with --port.") from error


def _described(sandbox: "Sandbox", *, wanted: int) -> str:
    url = sandbox.base_url
    mealbox, google = f"{url}/{sandbox.mealbox.name}", f"{url}/{sandbox.drive.name}"
    header = "-H 'Content-Type: application/json'"
    is_elsewhere = wanted != 0 and not url.endswith(f":{wanted}")
    lines = [
        *([f"Port {wanted} is taken."] if is_elsewhere else []),
        f"The sandbox is at {url}: a page with what arrived, and switches.",
        "",
        f"  {sandbox.mealbox.title}:",
        f"  PRODUCT_SERVICE_URL={mealbox} USER_SERVICE_URL={mealbox}",
        f"  {sandbox.jira.title}:",
        f"  JIRA_BASE_URL={url}/jira JIRA_EMAIL=anybody@localhost JIRA_API_TOKEN=sandbox",
        f"  {sandbox.github.title}:",
        f"  GITHUB_BASE_URL={url}/github GITHUB_TOKEN=sandbox GITHUB_REPOSITORY=cake-inc/website",
        f"  {sandbox.slack.title}:",
        f"  SLACK_BASE_URL={url}/slack/api SLACK_BOT_TOKEN=xoxb-sandbox",
        f"  {sandbox.smtp.title}:",
        f"  SMTP_HOST={sandbox.smtp.host} SMTP_PORT={sandbox.smtp.port} SMTP_SECURITY=none",
        f"  {sandbox.dsp.title}:",
        f"  DSP_URL={url}/dsp",
        f"  {sandbox.drive.title}:",
        f"  GOOGLE_TOKEN_URL={google}/token GOOGLE_DRIVE_URL={google}/drive/v3 GOOGLE_DOCS_URL={google}/docs/v1",
        "",
        "Try, in another terminal:",
        f"  curl {header} {mealbox}/products/classic-box",
        f"  curl {header} {mealbox}/users/7c11e1ce2741",
        f"  curl -X PUT {mealbox}/products/classic-box/behaviour -d '{{\"status\": 503}}'",
        f"  curl -X DELETE {mealbox}/products/classic-box/behaviour",
        f"  curl {mealbox}/requests",
        "",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)
