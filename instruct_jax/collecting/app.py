"""The server's application: which address is answered by what."""

import contextlib
from collections.abc import AsyncIterator

import anyio.to_thread
from starlette import (
  applications,
  exceptions,
  middleware,
  requests,
  responses,
  routing,
)

from instruct_jax.collecting import (
  admin,
  desk,
  guard,
  pages,
  site,
  store,
  visits,
)

THREADS = 8  # more would only wait for each other: one writes, few cores read
_CACHED = "public, max-age=31536000, immutable"  # names carry their digest


def build(
  labels: store.Store, *, limits: guard.Limits | None = None
) -> applications.Starlette:
  """The application that serves a store; limits are the settings'."""
  limits = limits or guard.limits_of(labels.settings.server)
  app = applications.Starlette(
    routes=[
      *pages.routes(),
      *admin.routes(),
      routing.Route("/static/{name}", _static),
    ],
    middleware=[middleware.Middleware(guard.Guard)],
    exception_handlers={exceptions.HTTPException: _http},
    lifespan=_lifespan,
  )
  app.state.site = site.site_of(labels, limits)
  app.state.desk = desk.Desk(labels)
  # A path with a slash too many is another path.
  app.router.redirect_slashes = False
  return app


@contextlib.asynccontextmanager
async def _lifespan(app: applications.Starlette) -> AsyncIterator[None]:
  del app
  anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
  yield


async def _static(request: requests.Request) -> responses.Response:
  """A style or script, held in memory: no path leads to any file."""
  shared: site.Site = request.app.state.site
  found = shared.static.get(request.path_params["name"])
  if found is None:
    raise exceptions.HTTPException(404)
  content, kind = found
  return responses.Response(
    content, media_type=kind, headers={"cache-control": _CACHED}
  )


async def _http(
  request: requests.Request, error: Exception
) -> responses.Response:
  assert isinstance(error, exceptions.HTTPException)
  titles = {404: "There is no such page", 405: "This cannot be asked so"}
  title = titles.get(error.status_code, error.detail)
  problem = visits.Problem(
    error.status_code, title, link=("/work", "To the work")
  )
  response = visits.told(request.app.state.site, request, problem)
  response.headers.update(error.headers or {})
  return response
