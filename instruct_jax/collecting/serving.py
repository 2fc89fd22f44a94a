"""The server process: its port, what it says when it starts, how it ends."""

import errno
import ipaddress
import os
import shlex
import shutil
import socket

import sqlalchemy
import uvicorn

from instruct_jax.base import errors, interrupt
from instruct_jax.collecting import app, site, store, tables

HOST, PORT = "127.0.0.1", 8000
_INSTRUCTIONS = "instructions.md"
_PATIENCE = 5  # seconds that requests which have begun may take at the end
_NAMES = {
  "demonstration": "answers to write",
  "ranking": "rankings",
  "comparison": "comparisons",
  "writing": "prompts to write",
}


def serve(labels: store.Store, *, host: str = HOST, port: int = PORT) -> None:
  """Serves until Ctrl-C (interrupt.Left) or SIGTERM (interrupt.Stopped).

  Raises UserError where the address cannot be had.
  """
  bound = bind(host, port)
  with bound:
    if not (labels.folder / _INSTRUCTIONS).exists():
      shutil.copyfile(site.HERE / _INSTRUCTIONS, labels.folder / _INSTRUCTIONS)
    _greet(labels, host, bound.getsockname()[1])
    config = uvicorn.Config(
      app.build(labels),
      log_config=None,
      log_level="warning",
      access_log=False,
      server_header=False,
      timeout_graceful_shutdown=_PATIENCE,
    )
    try:
      uvicorn.Server(config).run(sockets=[bound])
    except interrupt.Stopped:
      raise
    except KeyboardInterrupt:  # the way out of a server
      raise interrupt.Left from None


def bind(host: str, port: int) -> socket.socket:
  """A socket at an address of this machine; UserError where there is none."""
  try:
    family, kind, protocol, _, address = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
  except (socket.gaierror, UnicodeError):
    raise errors.UserError(
      f"--host={host}: is no address; {HOST} serves this machine alone,"
      " 0.0.0.0 whoever can reach it"
    ) from None
  bound = socket.socket(family, kind, protocol)
  bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    bound.bind(address)
    bound.listen(128)  # else two servers could have the same port
  except OSError as error:
    bound.close()
    raise errors.UserError(_unbound(host, port, error)) from None
  return bound


def _unbound(host: str, port: int, error: OSError) -> str:
  if error.errno == errno.EADDRINUSE:
    return (
      f"--port={port}: another program has it, or another server of these"
      f" labels; --port={port + 1 if port < 65535 else PORT} may be free, and"
      " --port=0 takes one that is"
    )
  if error.errno in (errno.EACCES, errno.EPERM):
    return f"--port={port}: is kept for the system; take one from 1024 on"
  if error.errno == errno.EADDRNOTAVAIL:
    return f"--host={host}: is no address of this machine"
  return f"--host={host} --port={port}: {os.strerror(error.errno or 0)}"


def _greet(labels: store.Store, host: str, port: int) -> None:
  """Says where everything is, and the admin's link if it is new."""
  url = address(host, port)
  command = f"python -m instruct_jax.label invite --dir={_quoted(labels)}"
  lines = [f"{labels.folder}: {tasks_of(labels)}", f"labelers  {url}/"]
  lines.append("  each by a link of their own, from the admin page or from")
  lines.append(f"  {command} NAME")
  if labels.has_admin():
    lines.append(f"admin     {url}/admin, by the link that was shown once;")
    lines.append(f"  a new one: {command} --admin")
  else:
    lines.append(f"admin     {url}/admin/enter/{labels.new_admin_token()}")
    lines.append("  open it now, and keep it: it is not shown again")
  if not is_local(host):
    lines.append(
      f"warning: --host={host} can be reached from outside, and what is sent"
      " can be read on its way: put TLS before it (docs/labeling.md)"
    )
  lines.append("Ctrl-C stops the server; what was saved stays.")
  print("\n".join(lines), flush=True)


def address(host: str, port: int) -> str:
  """Where a browser finds the server."""
  if host in ("", "0.0.0.0", "::"):
    host = socket.gethostname()
  return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(host: str) -> bool:
  """Whether only this machine reaches an address."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host.lower() == "localhost"


def tasks_of(labels: store.Store) -> str:
  """'120 tasks: 100 rankings, 20 prompts to write; 3 labelers'."""
  tasks = tables.TASKS
  count = sqlalchemy.func.count()
  with labels.reading() as connection:
    rows = connection.execute(
      sqlalchemy.select(tasks.c.kind, count.label("number")).group_by(
        tasks.c.kind
      )
    ).all()
    people = connection.scalar(
      sqlalchemy.select(count).select_from(tables.LABELERS)
    )
  found = {row.kind: row.number for row in rows}
  kinds = [f"{found[k]:,} {name}" for k, name in _NAMES.items() if k in found]
  total = sum(found.values())
  listed = f": {', '.join(kinds)}" if kinds else ", add some with --samples"
  s = "" if people == 1 else "s"
  return f"{total:,} tasks{listed}; {people} labeler{s}"


def _quoted(labels: store.Store) -> str:
  return shlex.quote(os.fspath(labels.folder))
