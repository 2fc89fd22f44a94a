"""The admin's pages: progress, labelers, agreement, tasks, export, backup.

Entered by a link with a token of its own, which becomes a cookie. Nothing here
changes an answer: what is reopened stays in the database, marked.
"""

from starlette import responses, routing

from instruct_jax.collecting import acting, desk, guard, looking, visits


def routes() -> list[routing.Route]:
  """The admin's pages; `app.state.desk` is a `desk.Desk`."""
  rows = (
    ("/admin/enter/{token}", "GET", enter, ""),
    ("/admin", "GET", looking.overview, visits.ADMIN),
    ("/admin/live", "GET", looking.live, visits.ADMIN),
    ("/admin/state.json", "GET", looking.state_json, visits.ADMIN),
    ("/admin/plots/{name}", "GET", looking.plot, visits.ADMIN),
    ("/admin/labelers/{number}", "GET", looking.labeler, visits.ADMIN),
    ("/admin/tasks", "GET", looking.tasks, visits.ADMIN),
    ("/admin/tasks/{number}", "GET", looking.task, visits.ADMIN),
    ("/admin/invite", "POST", acting.invite, visits.ADMIN),
    ("/admin/renew", "POST", acting.renew, visits.ADMIN),
    ("/admin/revoke", "POST", acting.revoke, visits.ADMIN),
    ("/admin/pass", "POST", acting.overrule, visits.ADMIN),
    ("/admin/grade", "POST", acting.grade, visits.ADMIN),
    ("/admin/reopen", "POST", acting.reopen, visits.ADMIN),
    ("/admin/close", "POST", acting.close, visits.ADMIN),
    ("/admin/export", "GET", acting.export, visits.ADMIN),
    ("/admin/backup", "GET", acting.backup, visits.ADMIN),
  )
  return [
    routing.Route(path, visits.endpoint(handler, by), methods=[method])
    for path, method, handler, by in rows
  ]


def enter(visit: visits.Visit) -> responses.Response:
  """Turns the token of the admin's link into a cookie."""
  token = visit.request.path_params["token"]
  visits.token_of(visit, token, by=visits.ADMIN)
  response = desk.to("/admin")
  guard.set_cookie(response, visit.request, visits.ADMIN, token)
  return response
