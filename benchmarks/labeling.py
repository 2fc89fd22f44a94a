"""Times the labelling server under load, and kills it in the middle.

  python -m benchmarks.labeling --folder=/tmp/labels --out=FILE

`--tasks` rankings of nine answers are put into a database, and `--labelers`
work at once for `--seconds`: each gets a page, thinks, ranks and sends, on a
connection of its own, from one process beside the server. Half way the server
is killed with SIGKILL and started again; labelers send again what was not
answered. What is reported:

  page, answer      milliseconds from the request to the last byte of its
                    reply: median, 99th percentile, the slowest; and how many
  lost, doubled     of the answers that a labeler saw as saved, those that are
                    not in the database, or not as they were sent, and those
                    that are there more often than once
  unseen            answers in the database that no labeler sent
  refused           requests that were answered with 4xx or 5xx
  outage            seconds from the kill to the first page of the new server
  cpu               shares of one core that the server and the labelers took

Thinking takes `--think` seconds on average, exponentially distributed: people
take minutes, so that one of these labelers is worth many. The folder is deleted
again, and must not be there.
"""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import platform
import random
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import label_clients, label_server
from instruct_jax.base import claims, command, errors, storage, terminal
from instruct_jax.collecting import settings, store, tables

K = 9
_WORDS = (30, 90)  # of a response
_SETTINGS = """
[screening]
required = false
[server]
requests_a_minute = 1000000
"""


def fill(folder: pathlib.Path, tasks: int, labelers: int) -> list[str]:
  """Makes a project with so many rankings; the tokens of its labelers."""
  folder.mkdir(parents=True)
  (folder / settings.NAME).write_text(_SETTINGS)
  opened = store.open_store(folder)
  opened.add_tasks("ranking", _rankings(tasks), source="benchmark")
  tokens = [opened.invite(f"labeler-{n}") for n in range(labelers)]
  opened.shut()
  return tokens


def _rankings(count: int) -> Iterator[dict[str, Any]]:
  rng = random.Random(0)
  words = [
    "".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9)))
    for _ in range(5000)
  ]
  for number in range(count):
    yield {
      "prompt": " ".join([f"{number}:", *rng.choices(words, k=40)]),
      "responses": [
        " ".join(rng.choices(words, k=rng.randint(*_WORDS))) for _ in range(K)
      ],
    }


def measure(
  folder: pathlib.Path,
  *,
  tasks: int,
  labelers: int,
  seconds: float,
  think: float,
) -> dict[str, Any]:
  """What is reported, of one load."""
  tokens = fill(folder, tasks, labelers)
  with label_server.Server(folder, folder / "log.txt") as server:
    cpu = [0.0]
    killer = threading.Timer(seconds / 2, _kill, (server, cpu))
    began, own = time.monotonic(), time.process_time()
    killer.start()
    told = asyncio.run(
      label_clients.together(server.port, tokens, seconds, think)
    )
    took, own = time.monotonic() - began, time.process_time() - own
    killer.join()
    cpu[0] += server.cpu_seconds()
    code = server.stop()
    log = server.said()
  return {
    **_spread(told, "page"),
    **_spread(told, "answer"),
    "answers_saved": sum(len(one.saved) for one in told),
    **compare(folder, told),
    "sent_again": sum(one.lost for one in told),
    "refused": _refused(told),
    "tracebacks": log.count("Traceback"),
    "exit_code": code,
    "outage_seconds": round(server.seconds, 2),
    "server_cpu": round(cpu[0] / took, 3),
    "labelers_cpu": round(own / took, 3),
    "seconds": round(took, 1),
  }  # fmt: skip


def _refused(told: Sequence[label_clients.Told]) -> int:
  each = (pair for one in told for pair in one.statuses.items())
  return sum(count for status, count in each if status >= 400)


def _kill(server: label_server.Server, cpu: list[float]) -> None:
  cpu[0] += server.cpu_seconds()
  server.kill()
  server.start()


def _spread(told: Sequence[label_clients.Told], name: str) -> dict[str, float]:
  took = np.asarray([s for one in told for s in one.seconds[name]]) * 1000
  return {
    f"{name}_median_ms": round(float(np.median(took)), 1),
    f"{name}_p99_ms": round(float(np.percentile(took, 99)), 1),
    f"{name}_most_ms": round(float(took.max()), 1),
    f"{name}_count": len(took),
  }


def compare(
  folder: pathlib.Path, told: Sequence[label_clients.Told]
) -> dict[str, int]:
  """What labelers saw as saved, held against the database."""
  with contextlib.closing(sqlite3.connect(folder / tables.NAME)) as database:
    rows = database.execute(
      "SELECT submission, answer, display, assignment_id, undone_at FROM"
      " answers JOIN assignments ON assignments.id = assignment_id"
    ).fetchall()
    many = database.execute(
      "SELECT count(*) FROM tasks WHERE taken > wanted"
    ).fetchone()[0]
  saved = {k: answer for one in told for k, answer in one.saved.items()}
  stored = collections.Counter(row[0] for row in rows)
  same = {row[0] for row in rows if _is_same(row, saved.get(row[0]))}
  of_one = collections.Counter(row[3] for row in rows if row[4] is None)
  return {
    "lost": len(set(saved) - same),
    "doubled": sum(n > 1 for n in (*stored.values(), *of_one.values())),
    "unseen": len(set(stored) - set(saved)),
    "handed_out_too_often": many,
  }


def _is_same(row: Sequence[Any], sent: dict[str, Any] | None) -> bool:
  """Whether a stored answer is what was sent, in the task's order."""
  if sent is None:
    return False
  stored, display = json.loads(row[1]), json.loads(row[2])
  return all(
    [stored[key][response] for response in display] == sent[key]
    for key in ("ranks", "ratings", "metadata")
  )


def main() -> None:
  """Prints what was found and writes it as JSON."""
  parser = command.Parser("benchmarks.labeling", __doc__)
  parser.add_argument("--folder", help="where there is room; required")
  parser.add_argument("--tasks", type=int, default=33_000)
  parser.add_argument("--labelers", type=int, default=40, help="at once")
  parser.add_argument("--seconds", type=float, default=300.0)
  parser.add_argument("--think", type=float, default=1.0)
  parser.add_argument("--out")
  parser.add_argument("--overwrite", action="store_true")
  given = parser.parse_args()
  if not given.folder:
    raise errors.UserError("give --folder=FOLDER, where there is room")
  folder = pathlib.Path(given.folder)
  if folder.exists():
    raise errors.UserError(f"--folder={folder}: must not be there")
  if given.out:
    claims.claim(given.out, overwrite=given.overwrite)
  asked = {
    "tasks": given.tasks,
    "labelers": given.labelers,
    "seconds": given.seconds,
    "think": given.think,
  }
  before = os.getloadavg()[0]
  try:
    found = measure(folder, **asked)
  finally:
    shutil.rmtree(folder, ignore_errors=True)
  terminal.table(list(found.items()), ["what", "found"], stream=sys.stdout)
  if given.out:
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    about = {"machine": machine, "load_before": round(before, 2)}
    storage.write_json(given.out, about | {"asked": asked, "found": found})
    claims.sign(given.out)


if __name__ == "__main__":
  command.run(main)
