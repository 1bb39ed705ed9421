"""What gunicorn runs: the API with its keeper, and the package listener."""

import gc
from wsgiref.types import WSGIApplication

from app.log import configure_logging
from app.settings import Settings


def api() -> WSGIApplication:
    """The API and console of this environment's settings, and one more keeper."""
    # imported here: the package listener needs none of it, and must not fall with it
    from app.api.events import end_on_stop
    from app.factory import create_app
    from app.jobs.context import open_context
    from app.keeper import Keeper

    ctx = open_context(_settings())
    Keeper(ctx).start()
    application = create_app(ctx)
    end_on_stop()
    # what lives as long as we do is left out of every collection: they doubled slow answers' time
    gc.collect()
    gc.freeze()
    return application


def packages() -> WSGIApplication:
    """The listener hosts fetch packages from."""
    from app.packages.serve import create_package_listener

    return create_package_listener(_settings())


def _settings() -> Settings:
    settings = Settings.from_env()
    configure_logging(settings.log_level)
    return settings
