"""`geoloc ui` and `geoloc demo`: the page, served on this machine only."""

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from streamlit.web import bootstrap

from geoloc.errors import GeolocError
from indexing.gallery import Gallery
from ui.demo import check_demo, demo_gallery
from ui.hosts import AllowHost, trust
from ui.samples import STREET_VIEWS

HOST = "127.0.0.1"
PORT = 8501
PAGE = Path(__file__).with_name("page.py")
OPTIONS = {
    "server_address": HOST,
    "server_headless": True,
    "server_fileWatcherType": "none",
    "server_runOnSave": False,
    "server_maxUploadSize": 256,
    "browser_gatherUsageStats": False,
    "browser_serverAddress": HOST,
    "client_showErrorDetails": "none",
    "client_toolbarMode": "minimal",
    "global_developmentMode": False,
    "logger_hideWelcomeMessage": True,
    "logger_level": "warning",
    "theme_base": "light",
    "theme_primaryColor": "#0b6e69",
    "theme_backgroundColor": "#fbfaf7",
    "theme_secondaryBackgroundColor": "#f1efe8",
    "theme_textColor": "#1f2b30",
    "theme_borderColor": "#dfdcd3",
    "theme_baseRadius": "8px",
}
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="A free one if not given.")]


def ui(
    gallery: Annotated[Path, typer.Argument(help="The gallery to show, as `geoloc index build` made it.")],
    port: Port = None,
    allow_host: AllowHost = None,
) -> None:
    """Serve the map page of a gallery on this machine, until Ctrl-C."""
    trust(allow_host)
    Gallery.open(gallery).close()
    serve(gallery, port)


def demo(
    check: Annotated[
        bool, typer.Option("--check", help="No page: print the table of errors; exit 0 if within bounds.")
    ] = False,
    port: Port = None,
) -> None:
    """Build the sample town's gallery and show where its street views were taken."""
    gallery = demo_gallery()
    if check:
        raise typer.Exit(0 if check_demo(gallery) else 1)
    serve(gallery, port, STREET_VIEWS)


def serve(gallery: Path, port: int | None, samples: Path | None = None) -> None:
    """Run the page until interrupted, which is exit code 130. Raises GeolocError for a port in use."""
    port = free_port() if port is None else port
    if not _is_free(port):
        raise GeolocError(f"Port {port} is in use; choose another with --port, or leave it out.")
    options = {**OPTIONS, "server_port": port}
    bootstrap.load_config_options(flag_options=options)
    print(f"The map is at http://{HOST}:{port} (Ctrl-C ends it).", file=sys.stderr, flush=True)
    arguments = [str(gallery.resolve()), *([str(samples)] if samples else [])]
    bootstrap.run(str(PAGE), False, arguments, options)
    raise typer.Exit(130)


def free_port() -> int:
    """8501 where nobody listens there, else any free port."""
    if _is_free(PORT):
        return PORT
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
