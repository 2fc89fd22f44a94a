"""python -m instruct_jax.label import --format=label_studio FILE --out=FILE

Rankings from what Label Studio exports as JSON (not JSON-MIN), as it has it of
projects that `label export --format=label_studio` made. Also of others, whose
tasks have a "prompt" and "items" ({"id", "body"}) for a List with a Ranker: one
without buckets gives an order without ties.
"""

import collections
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from instruct_jax import paper
from instruct_jax.base import claims, command, errors, storage
from instruct_jax.collecting import label_studio
from instruct_jax.data.read import collected, files, kinds, records, typed

_RANK = re.compile(r"rank_(\d{1,4})")
_OURS = re.compile(r"r(\d{1,4})")
_PLACE = re.compile(r"(rating|flags)_(\d{1,4})")
_UNRANKED, _CONTRARY = "unranked", "contradicts itself"


def main(arguments: list[str]) -> None:
  """The command line of the import; raises UserError."""
  parser = command.Parser("instruct_jax.label import", __doc__)
  add = parser.add_argument
  add("inputs", metavar="FILE", help="what Label Studio exported as JSON")
  add("--format", required=True, help=label_studio.FORMAT)
  add("--out", required=True, help="the file of rankings to write, .jsonl")
  add("--overwrite", action="store_true", help="replace what is not ours")
  given = parser.parse_args(arguments)
  if given.format != label_studio.FORMAT:
    raise errors.unknown("--format", given.format, (label_studio.FORMAT,))
  path = epath.Path(given.out)
  claims.claim(path, reads=[given.inputs], overwrite=given.overwrite)
  left_out: collections.Counter[str] = collections.Counter()
  rows = list(read(given.inputs, left_out))
  if not rows:
    raise errors.UserError(
      f"{given.inputs}: nobody has ranked any of its tasks"
    )
  storage.write_lines(path, map(collected.line, rows))
  claims.sign(path)
  print(f"{len(rows):,} rankings: {given.out}")
  for reason, count in left_out.items():
    print(f"{count:,} left out: {reason}")


def read(
  spec: str, left_out: collections.Counter | None = None
) -> Iterator[dict[str, Any]]:
  """The rankings in what Label Studio exported, by task and annotation.

  Annotations that were cancelled, or leave a response unranked, are counted in
  `left_out`. Raises UserError, with the file and the task, for what is no such
  export.
  """
  left_out = collections.Counter() if left_out is None else left_out
  for where, task in files.rows(spec):
    if "annotations" not in task or "data" not in task:
      raise errors.UserError(
        f'{where}: no "data" and "annotations"; export the project as JSON (not'
        " JSON-MIN or CSV)"
      )
    responses = _responses(task["data"], where)
    for number, annotation in enumerate(_list(task, "annotations", where), 1):
      place = f"{where}, annotation {number}"
      record = _record(task, annotation, responses, place)
      if isinstance(record, str):
        left_out[record] += 1
        continue
      if wrong := kinds.wrong(record, "rankings", 0, of_people=False):
        raise errors.UserError(f"{place}: {wrong}")
      if kinds.KINDS["rankings"].contradiction(record):
        left_out[_CONTRARY] += 1
        continue
      yield record


def _responses(data: Any, where: str) -> dict[str, str]:
  """{an item's id: its text}, in the order of the items."""
  items = data.get("items") if isinstance(data, dict) else None
  is_list = isinstance(items, list) and all(isinstance(x, dict) for x in items)
  if not is_list or not isinstance(data.get("prompt"), str):
    raise errors.UserError(
      f'{where}: "data" should have a "prompt" and "items", a list of {{"id",'
      f' "body"}}, as `label export --format={label_studio.FORMAT}` writes them'
    )
  found = {}
  for item in items:
    text = item.get("body", item.get("title"))
    if "id" not in item or not isinstance(text, str):
      raise errors.UserError(
        f'{where}: an item should have an "id" and a text as its "body", not'
        f" {typed.shown(item)}"
      )
    found[str(item["id"])] = text
  if len(found) < len(items):
    raise errors.UserError(f'{where}: two items have the same "id"')
  return found


def _record(
  task: Mapping[str, Any],
  annotation: Any,
  responses: Mapping[str, str],
  where: str,
) -> dict[str, Any] | str:
  """The ranking of an annotation; or why it is left out."""
  if not isinstance(annotation, dict):
    raise errors.UserError(f"{where}: should be an object")
  if annotation.get("was_cancelled"):
    return "skipped"
  said = _Said(_list(annotation, "result", where), responses, where)
  if not said.ranks or len(said.ranks) < len(responses):
    return _UNRANKED
  ids = sorted(responses, key=_own_place) if _are_ours(responses) else responses
  values = sorted(set(said.ranks.values()))
  record: dict[str, Any] = {
    "prompt": task["data"]["prompt"],
    "responses": [responses[x] for x in ids],
    "ranks": [values.index(said.ranks[x]) + 1 for x in ids],
    "labeler": said.labeler or _completed_by(annotation),
  }
  meta = _object(task, "meta")
  group = _object(meta, "groups").get(record["labeler"])
  if group:
    record["group"] = group
  if _is_time(annotation.get("lead_time")):
    record["seconds"] = float(annotation["lead_time"])
  if said.sensitive:
    record[label_studio.SENSITIVE] = True
  if len(said.ratings) == len(responses):
    record["ratings"] = [said.ratings[x] for x in ids]
  if any(said.flags.values()) or ("ratings" in record and "task" in meta):
    record["metadata"] = [
      {flag: flag in said.flags[x] for flag in paper.METADATA} for x in ids
    ]
  record |= {k: meta[k] for k in ("models", "ended") if k in meta}
  if "ended" not in record and any(map(records.is_blank, record["responses"])):
    record["ended"] = [True] * len(responses)
  more = _object(meta, "record")
  return record | {k: v for k, v in more.items() if k not in record}


class _Said:
  """What the results of one annotation say."""

  def __init__(
    self, results: Iterable[Any], responses: Mapping[str, str], where: str
  ):
    self.ranks: dict[str, int] = {}
    self.ratings: dict[str, int] = {}
    self.flags = collections.defaultdict(set)
    self.labeler, self.sensitive = "", False
    self._ids, self._where = list(responses), where
    for result in results:
      if not isinstance(result, dict) or not isinstance(
        result.get("value"), dict
      ):
        raise errors.UserError(f'{where}: "result" should hold objects')
      self._take(result, result["value"])

  def _take(self, result: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    name = str(result.get("from_name", ""))
    place = _PLACE.fullmatch(name)
    if "ranker" in value:
      self.ranks = self._ranked(value["ranker"], name)
    elif place and int(place[2]) < len(self._ids):
      own = self._ids[int(place[2])]
      if "rating" in value:
        self.ratings[own] = value["rating"]
      self.flags[own] |= {_flag(x) for x in self._choices(value)}
    elif name == "labeler":
      text = value.get("text", "")
      first = text[0] if isinstance(text, list) and text else text
      self.labeler = first if isinstance(first, str) else ""
    elif name == label_studio.SENSITIVE:
      self.sensitive = label_studio.SENSITIVE in self._choices(value)

  def _choices(self, value: Mapping[str, Any]) -> list[str]:
    """The boxes that are ticked."""
    found = value.get("choices", [])
    if not isinstance(found, list) or not all(
      isinstance(each, str) for each in found
    ):
      raise errors.UserError(
        f'{self._where}: "choices" should be a list of texts, not'
        f" {typed.shown(found)}"
      )
    return found

  def _ranked(self, said: Any, name: str) -> dict[str, int]:
    """{id: rank} of what a Ranker says, with buckets or without."""
    if isinstance(said, dict) and [*said] == [name]:
      said = next(iter(said.values()))
    if isinstance(said, list):
      ranks = {str(own): n for n, own in enumerate(said, 1)}
    else:
      ranks = self._bucketed(said)
    unknown = set(ranks) - set(self._ids)
    if unknown:
      raise errors.unknown(
        f"{self._where}: ranked item", min(unknown), self._ids
      )
    return ranks

  def _bucketed(self, said: Any) -> dict[str, int]:
    ranks = {}
    for bucket, ids in said.items() if isinstance(said, dict) else ():
      number = _RANK.fullmatch(bucket)
      if bucket == "_" or not ids:  # Where items lie that nobody has moved.
        continue
      if not number:
        raise errors.UserError(
          f"{self._where}: the Ranker's bucket {bucket!r:.40} is no rank;"
          " buckets rank_1, rank_2 and so on are, or a Ranker without any"
        )
      if not isinstance(ids, list):
        raise errors.UserError(
          f"{self._where}: the Ranker's bucket {bucket!r} should hold a list of"
          f" items, not {typed.shown(ids)}"
        )
      ranks |= {str(own): int(number[1]) for own in ids}
    return ranks


def _flag(said: str) -> str:
  """A flag's name, given that or the words that stand beside its box."""
  words = {text: flag for flag, text in paper.METADATA.items()}
  return words.get(said, said)


def _completed_by(annotation: Mapping[str, Any]) -> str:
  """Whom Label Studio says that an annotation is of."""
  who = annotation.get("completed_by")
  if isinstance(who, dict):
    who = who.get("email") or who.get("id")
  return f"label_studio_{who}" if isinstance(who, int) else str(who or "people")


def _is_time(seconds: Any) -> bool:
  is_number = isinstance(seconds, int | float) and seconds is not True
  return is_number and 0 <= seconds < math.inf


def _are_ours(responses: Iterable[str]) -> bool:
  return all(_OURS.fullmatch(own) for own in responses)


def _own_place(own: str) -> int:
  return int(own.removeprefix("r"))


def _list(tree: Mapping[str, Any], key: str, where: str) -> list:
  found = tree.get(key)
  if not isinstance(found, list):
    raise errors.UserError(f'{where}: "{key}" should be a list')
  return found


def _object(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
  """What others may have written as they like: an object, or an empty one."""
  found = tree.get(key)
  return found if isinstance(found, dict) else {}
