"""The option of every command that reads imagery: whose servers may be asked for it."""

import os
from collections.abc import Iterable
from typing import Annotated

import typer

from preprocessing.remote import ALLOWED, allowed_hosts

AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST[:PORT]",
        envvar=ALLOWED,
        help="A host that STAC items may lie on, beside those of the addresses given. Repeatable. Redirects "
        "are never followed; logins come from the netrc file that GEOLOC_NETRC names, if any.",
    ),
]


def trust(hosts: Iterable[str] | None) -> None:
    """Let imagery that a gallery was cut from be read from these hosts too, until the process ends."""
    os.environ[ALLOWED] = " ".join({*allowed_hosts(), *(hosts or ())})
