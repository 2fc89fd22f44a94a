"""What `python -m instruct_jax.label` does but for export and import.

Each takes the arguments behind its name and raises UserError.
"""

import pathlib

from instruct_jax.base import allocation, command, compilation, errors
from instruct_jax.collecting import (
  client,
  filling,
  people,
  serving,
  store,
  tables,
)


def serve(arguments: list[str]) -> None:
  """Fills the tasks, then serves until it is stopped."""
  given = _serve_parser().parse_args(arguments)
  opened = store.open_store(given.dir)
  try:
    if given.run:  # what they are to say may take hours
      serving.bind(given.host, given.port).close()
    fill(opened, given.run, given.prompts, given.samples_file)
    serving.serve(opened, host=given.host, port=given.port)
  finally:
    opened.shut()


def fill(
  opened: store.Store,
  runs: list[str],
  prompts: str | None,
  samples: list[str],
) -> None:
  """Makes tasks of what a start names, and says what became of it."""
  filling.begin(opened)
  found = [filling.from_samples(opened, spec) for spec in samples]
  if runs:
    # What decodes takes seconds to import, and a server that was killed is to
    # be back at once.
    from instruct_jax.collecting import sampling

    allocation.keep()
    compilation.enable_cache()
    found += sampling.from_runs(opened, runs, prompts or "")
  elif prompts:
    found.append(filling.from_prompts(opened, prompts))
  for each in found:
    print("\n".join(each.lines()), flush=True)


def invite(arguments: list[str]) -> None:
  """Prints the link of a new labeler, of one there is, or of the admin."""
  given = _invite_parser().parse_args(arguments)
  if bool(given.name) == given.admin:
    raise errors.UserError(
      "name a labeler, as `invite --dir=LABELS ann`, or give --admin"
    )
  client.check(given.url)
  url = given.url.rstrip("/")
  opened = _open(given.dir)
  try:
    if given.admin:
      print(f"{url}/admin/enter/{opened.new_admin_token()}")
    elif given.renew:
      print(f"{url}/invite/{opened.renew(_known(opened, given.name))}")
    else:
      print(f"{url}/invite/{opened.invite(given.name, given.group)}")
  finally:
    opened.shut()


def backup(arguments: list[str]) -> None:
  """Copies the database while the server runs."""
  given = _backup_parser().parse_args(arguments)
  path = pathlib.Path(given.out)
  opened = _open(given.dir)
  try:
    if path.exists() and path.samefile(opened.database.path):
      raise errors.UserError(f"--out={path}: is the database itself")
    if path.is_dir():
      path = path / tables.NAME
    if path.exists() and not given.overwrite:
      raise errors.UserError(
        f"--out={path}: is there already; another name, or --overwrite"
      )
    opened.backup(path)
  finally:
    opened.shut()
  print(f"{path}: {path.stat().st_size:,} bytes")


def simulate(arguments: list[str]) -> None:
  """Has simulated labelers answer a server's tasks."""
  from instruct_jax.collecting import simulated  # and the microworld

  given = _simulate_parser().parse_args(arguments)
  done = simulated.simulate(
    given.url,
    given.dir,
    labelers=given.labelers,
    group=given.group,
    seed=given.seed,
    tasks=given.tasks,
  )
  for name, count in done.answers.items():
    why = done.stopped.get(name, "")
    print(f"{name}: {count:,} answers{f'; {why}' if why else ''}")


def _open(folder: str) -> store.Store:
  """The store of a folder that is one; UserError for another."""
  if not (pathlib.Path(folder) / tables.NAME).is_file():
    raise errors.UserError(
      f"--dir={folder}: has no {tables.NAME}; `python -m instruct_jax.label"
      f" --dir={folder}` begins one"
    )
  return store.open_store(folder)


def _known(opened: store.Store, name: str) -> int:
  ids = {labeler.name: labeler.id for labeler in opened.labelers()}
  if name not in ids:
    raise errors.unknown("labeler", name, ids)
  return ids[name]


def _parser(name: str, what: str) -> command.Parser:
  parser = command.Parser(f"instruct_jax.label{name}", what)
  parser.add_argument(
    "--dir", required=True, metavar="LABELS", help="the folder of labels"
  )
  return parser


def _serve_parser() -> command.Parser:
  parser = _parser("", "Serves the pages on which people label.")
  add = parser.add_argument
  add(
    "--run",
    action="append",
    default=[],
    help="a finished run that answers prompts; may be given again",
  )
  add("--prompts", metavar="FILE", help="prompts; without runs, to be answered")
  add(
    "--samples",
    dest="samples_file",
    action="append",
    default=[],
    metavar="FILE",
    help='lines {"prompt", "responses": [...]} to be ranked; may be repeated',
  )
  add("--host", default=serving.HOST, help="whom to listen to")
  add("--port", type=int, default=serving.PORT, help="0: any that is free")
  return parser


def _invite_parser() -> command.Parser:
  parser = _parser(" invite", "Prints the link that lets a labeler in.")
  add = parser.add_argument
  add("name", nargs="?", help="of the labeler")
  add("--group", default=people.GROUPS[0], help=" or ".join(people.GROUPS))
  add("--renew", action="store_true", help="a new link of one who is there")
  add("--admin", action="store_true", help="a new link of the admin instead")
  _add_url(parser)
  return parser


def _backup_parser() -> command.Parser:
  parser = _parser(
    " backup",
    "Copies the database, also while it is served. To go back to a copy, stop"
    " the\nserver, remove LABELS/labels.sqlite-wal and labels.sqlite-shm (of"
    " the file that\ngoes), and put the copy at LABELS/labels.sqlite.",
  )
  add = parser.add_argument
  add("--out", required=True, metavar="FILE", help="the copy, or its folder")
  add("--overwrite", action="store_true", help="replace what is there")
  return parser


def _simulate_parser() -> command.Parser:
  parser = _parser(" simulate", "Has simulated labelers answer the tasks.")
  add = parser.add_argument
  add("--labelers", type=int, default=4, help="how many, at once")
  add("--group", default=people.GROUPS[0], help=" or ".join(people.GROUPS))
  add("--seed", type=int, default=0, help="of their taste")
  add("--tasks", type=int, help="of each, at most; all where not given")
  _add_url(parser)
  return parser


def _add_url(parser: command.Parser) -> None:
  default = f"http://{serving.HOST}:{serving.PORT}"
  parser.add_argument("--url", default=default, help="the server's address")
