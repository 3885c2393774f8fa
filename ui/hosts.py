"""The option of every command that reads imagery: whose servers may be asked for it."""

from typing import Annotated

import typer

AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST[:PORT]",
        envvar="GEOLOC_ALLOW_HOSTS",
        help="A host that STAC items may lie on, beside those of the addresses given. Repeatable. Redirects "
        "are never followed; logins come from the netrc file that GEOLOC_NETRC names, if any.",
    ),
]
