"""`python -m api`: runs the API's server."""

from __future__ import annotations

import sys

import uvicorn

from api.asgi import make_app
from spans.errors import SetupError
from wiring.gc_tuning import tune_gc
from wiring.logs import set_up_logging
from wiring.services import open_services
from wiring.settings import read_settings

KEEP_ALIVE_S = 75
"""How long an idle connection stays open: longer than the 60 s of common load balancers, so
that they close it first, and send no request on a connection that is being closed."""

SHUTDOWN_S = 3
"""How long requests under way may take once the server stops."""


def main() -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code: 2 for an error in the settings."""
    try:
        settings = read_settings()
        services = open_services(settings)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    set_up_logging(settings.log_level)
    tune_gc()
    uvicorn.run(
        make_app(services),
        host=settings.host,
        port=settings.api_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,            # URLs hold ids and upload secrets
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        proxy_headers=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
