"""python -m instruct_jax.label export --dir=LABELS --out=FOLDER

Writes what people answered as the files that the chain reads:

  rankings.jsonl        {"prompt", "responses", "ranks", "labeler", "group",
                        "seconds", "ratings", "metadata", ...}
  demonstrations.jsonl  {"prompt", "response", "labeler", ...}
  prompts.jsonl         {"prompt", "user", "form", ...}
  likert.jsonl          {"prompt", "response", "model", "labeler", "likert",
                        "metadata", ...}, a line for each rated response
  summary.json          how many of each, and what was left out and why

A file that would be empty is not written. --split_by_group writes them in
training/ and in held_out/, by the labelers' groups. --format=label_studio
writes the ranking tasks for Label Studio instead. The server may run.
"""

import collections
import contextlib
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from typing import IO, Any

from etils import epath

from instruct_jax.base import command, errors, storage
from instruct_jax.collecting import label_studio
from instruct_jax.data.read import answers, collected
from instruct_jax.parallel import folders
from instruct_jax.scoring import comparisons

SUMMARY = "summary.json"
LIKERT = "likert"
KINDS = (*collected.FORMS, LIKERT)
_OF_LINE = (
  *("sensitive", "core"),
  *(by for by in comparisons.BY if by != "labelers"),
)


def main(arguments: list[str]) -> None:
  """The command line; raises UserError."""
  given = _parser().parse_args(arguments)
  if given.format not in ("jsonl", label_studio.FORMAT):
    known = ("jsonl", label_studio.FORMAT)
    raise errors.unknown("--format", given.format, known)
  if given.format == label_studio.FORMAT and given.split_by_group:
    raise errors.UserError(
      f"--split_by_group: is for jsonl; with --format={label_studio.FORMAT} the"
      ' "meta" of each task says the group of who ranked it'
    )
  path = database(given.dir)
  with folders.making(
    given.out, reads=[given.dir], overwrite=given.overwrite
  ) as folder:
    if given.format == label_studio.FORMAT:
      check_names(path, given.without)
      summary = label_studio.write(
        path, pathlib.Path(folder), without=given.without
      )
    else:
      summary = write(
        path,
        pathlib.Path(folder),
        split_by_group=given.split_by_group,
        without=given.without,
      )
  for name, count in summary["rows"].items():
    print(f"{count:,} {name}: {given.out}/{name}")
  if not summary["rows"]:
    print(
      f"{given.out}: no data yet, nobody has answered a task that gives any"
    )
  for reason, count in summary["left_out"].items():
    print(f"{count:,} left out: {reason.replace('_', ' ')}")


def database(folder: os.PathLike | str) -> epath.Path:
  """The database of a folder of labels; UserError where there is none."""
  found = answers.database(folder)
  if found is None:
    raise errors.UserError(
      f"--dir={folder}: holds no labels ({answers.NAME}); name the folder that"
      " `python -m instruct_jax.label --dir=FOLDER` collects in"
    )
  return found


def _parser() -> command.Parser:
  parser = command.Parser("instruct_jax.label export", __doc__)
  add = parser.add_argument
  add("--dir", required=True, help="the folder of labels")
  add("--out", required=True, help="the folder to write")
  add("--format", default="jsonl", help="jsonl or label_studio")
  add(
    "--split_by_group",
    action="store_true",
    help="training labelers' and held-out labelers' apart",
  )
  add(
    "--without",
    action="append",
    default=[],
    metavar="NAME",
    help="leave a labeler's answers out; may be given again",
  )
  add(
    "--overwrite",
    action="store_true",
    help="replace what no command of instruct_jax wrote",
  )
  return parser


def write(
  path: os.PathLike | str,
  folder: pathlib.Path,
  *,
  split_by_group: bool = False,
  without: Collection[str] = (),
) -> dict[str, Any]:
  """Writes the files into a folder; what summary.json says.

  All are of one moment. Raises UserError for a name in `without` that no
  labeler has, and for a database that is none.
  """
  check_names(path, without)
  rows, left_out = collections.Counter(), collections.Counter()
  labelers: dict[str, dict[str, Any]] = {}
  with contextlib.ExitStack() as stack:
    files: dict[str, IO] = {}
    for answer in answers.read(path):
      reason = _why_left_out(answer, without)
      if reason:
        left_out[reason] += 1
        continue
      who = labelers.setdefault(
        answer.labeler, {"group": answer.group, "answers": 0, "sensitive": 0}
      )
      who["answers"] += 1
      who["sensitive"] += answer.sensitive
      within = f"{answer.group}/" if split_by_group else ""
      for kind, record in records(answer):
        name = f"{within}{kind}.jsonl"
        if name not in files:
          (folder / name).parent.mkdir(parents=True, exist_ok=True)
          files[name] = stack.enter_context(storage.writing(folder / name))
        files[name].write(collected.line(record) + "\n")
        rows[name] += 1
  summary = {
    "rows": dict(sorted(rows.items())),
    "left_out": dict(sorted(left_out.items())),
    "labelers": dict(sorted(labelers.items())),
  }
  storage.write_json(folder / SUMMARY, summary)
  return summary


def records(answer: answers.Answer) -> Iterator[tuple[str, dict[str, Any]]]:
  """(kind, line) of all that an answer which counts is data for."""
  for kind, form in collected.FORMS.items():
    for record in form(answer):
      yield kind, record
      if "ratings" in record:
        for one in _likert(record):
          yield LIKERT, one


def _likert(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
  """What a ranking says of each response by itself."""
  models = record.get("models") or record.get("sources")
  of_line = {key: record[key] for key in _OF_LINE if key in record}
  for k, response in enumerate(record["responses"]):
    yield {
      "prompt": record["prompt"],
      "response": response,
      **({"model": models[k]} if models else {}),
      "labeler": record["labeler"],
      "group": record["group"],
      "likert": record["ratings"][k],
      "metadata": record["metadata"][k],
      **of_line,
    }


def zipped(
  path: os.PathLike | str, *, split_by_group: bool = False
) -> IO[bytes]:
  """The files in a zip archive: an open file, at its beginning, without name.

  Archives of the same answers are the same, byte for byte.
  """
  # Its reader closes it.
  archive = tempfile.TemporaryFile()  # noqa: SIM115
  with (
    tempfile.TemporaryDirectory() as name,
    zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target,
  ):
    folder = pathlib.Path(name)
    write(path, folder, split_by_group=split_by_group)
    for file in sorted(x for x in folder.rglob("*") if x.is_file()):
      within = file.relative_to(folder).as_posix()
      entry = zipfile.ZipInfo(f"labels/{within}")  # of a fixed date
      entry.compress_type = zipfile.ZIP_DEFLATED
      with open(file, "rb") as source, target.open(entry, "w") as place:
        while block := source.read(1 << 20):
          place.write(block)
  archive.seek(0)
  return archive


def _why_left_out(answer: answers.Answer, without: Collection[str]) -> str:
  if answer.labeler in without:
    return f"of_{answer.labeler}"
  return collected.why_left_out(answer)


def check_names(path: os.PathLike | str, without: Collection[str]) -> None:
  """UserError for a name in `without` that no labeler has."""
  with answers.opened(path) as connection:
    known = [name for (name,) in connection.execute(
      "SELECT name FROM labelers ORDER BY name")]  # fmt: skip
  for name in without:
    if name not in known:
      raise errors.unknown("--without: labeler", name, known)
