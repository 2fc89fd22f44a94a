"""Ranking tasks for Label Studio, with what was ranked here already.

Its version 1.7 and later, whose Ranker tag sorts the items of a List ("Label
Studio JSON format of annotated tasks" in its guide, and its pages on the tags
Ranker, Rating, Choices, TextArea and Repeater). `importing` reads it back.

  tasks.json        to be imported into a project: {"data": {"prompt", "items":
                    [{"id", "title", "body"}]}, "meta", "annotations"}; what was
                    ranked here already comes along
  label_config.xml  the project's labeling interface: a bucket for each rank, so
                    that ties can be said; a rating and table 3's flags for each
                    response; who ranked

`meta` has what labelers must not see, as which model gave a response.
"""

import collections
import json
import os
import pathlib
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from xml.sax import saxutils

from instruct_jax import paper
from instruct_jax.base import storage
from instruct_jax.data.read import answers

FORMAT = "label_studio"
TASKS, CONFIG = "tasks.json", "label_config.xml"
_META = ("models", "ended", "record")
SENSITIVE = "sensitive"


def write(
  path: os.PathLike | str,
  folder: pathlib.Path,
  *,
  without: Collection[str] = (),
) -> dict[str, Any]:
  """Writes tasks.json and label_config.xml; how many, and what was left out.

  Of tasks that are closed without an answer nothing is written, and nothing
  that a labeler named in `without` said.
  """
  most, counts, left_out = 2, collections.Counter(), collections.Counter()
  folder.mkdir(parents=True, exist_ok=True)
  with answers.held(), storage.writing(folder / TASKS) as file:
    for number, task in enumerate(_tasks(path, left_out, without)):
      most = max(most, len(task["data"]["items"]))
      counts[TASKS] += 1
      file.write(",\n" if number else "[\n")
      file.write(json.dumps(task, ensure_ascii=False))
    file.write("\n]\n" if counts[TASKS] else "[]\n")
  storage.write(folder / CONFIG, config(most))
  return {"rows": dict(counts), "left_out": dict(sorted(left_out.items()))}


_RANKED = """
  SELECT id, content, closed FROM tasks
  WHERE kind IN ('ranking', 'comparison') AND is_screening = 0 ORDER BY id
"""


def _tasks(
  path: os.PathLike | str,
  left_out: collections.Counter,
  without: Collection[str],
) -> Iterator[dict[str, Any]]:
  """The ranking tasks, each with what was answered to it."""
  answered = collections.defaultdict(list)
  for answer in answers.read(path):
    if answer.kind not in ("ranking", "comparison") or answer.is_screening:
      continue
    if answer.labeler in without:
      left_out[f"of_{answer.labeler}"] += 1
    else:
      answered[answer.task].append(answer)
  with answers.opened(path) as connection:
    for task, text, is_closed in connection.execute(_RANKED):
      if is_closed and task not in answered:
        left_out["closed_without_an_answer"] += 1
        continue
      yield task_of(task, json.loads(text), answered.pop(task, []))


def task_of(
  number: int, content: Mapping[str, Any], said: Sequence[answers.Answer]
) -> dict[str, Any]:
  """A task as Label Studio imports it; its items in an order of its own."""
  order = list(range(len(content["responses"])))
  random.Random(number).shuffle(order)
  items = [
    {"id": f"r{k}", "title": f"Answer {n}", "body": content["responses"][k]}
    for n, k in enumerate(order, 1)
  ]
  meta = {"task": number} | {k: content[k] for k in _META if k in content}
  if said:
    meta["groups"] = {one.labeler: one.group for one in said}
  return {
    "data": {"prompt": content["prompt"], "items": items},
    "meta": meta,
    "annotations": [_annotation(one, order) for one in said],
  }


def _annotation(answer: answers.Answer, order: Sequence[int]) -> dict[str, Any]:
  said = answer.said
  if answer.is_skipped:
    result = []
  else:
    result = [_ranker(said["ranks"])]
    for place, k in enumerate(order):
      if "ratings" in said:
        rating = {"rating": said["ratings"][k]}
        result.append(_result("rating", place, rating))
        ticked = [x for x, is_so in said["metadata"][k].items() if is_so]
        if ticked:
          flags = {"choices": ticked}
          result.append(_result("choices", place, flags, name="flags"))
  result.append(_of_prompt("labeler", "textarea", {"text": [answer.labeler]}))
  if answer.sensitive:
    choices = {"choices": [SENSITIVE]}
    result.append(_of_prompt(SENSITIVE, "choices", choices))
  return {
    "result": result,
    "was_cancelled": answer.is_skipped,
    "lead_time": answer.seconds,
  }


def _ranker(ranks: Sequence[int]) -> dict[str, Any]:
  buckets = collections.defaultdict(list)
  for k, rank in enumerate(ranks):
    buckets[f"rank_{rank}"].append(f"r{k}")
  return {
    "from_name": "ranking",
    "to_name": "responses",
    "type": "ranker",
    "value": {"ranker": dict(sorted(buckets.items()))},
  }


def _result(of, place, value, name=""):
  return {
    "from_name": f"{name or of}_{place}",
    "to_name": f"response_{place}",
    "type": of,
    "value": value,
  }


def _of_prompt(name, of, value):
  return {"from_name": name, "to_name": "prompt", "type": of, "value": value}


def config(most: int) -> str:
  """The labeling interface for tasks of at most so many responses."""
  buckets = "\n".join(
    f'      <Bucket name="rank_{n}" title="{n}{" (best)" * (n == 1)}" />'
    for n in range(1, most + 1)
  )
  flags = "\n".join(
    f"      <Choice alias={saxutils.quoteattr(flag)}"
    f" value={saxutils.quoteattr(said)} />"
    for flag, said in paper.METADATA.items()
  )
  return _CONFIG.format(buckets=buckets, flags=flags)


_CONFIG = """<View>
  <Text name="prompt" value="$prompt" />
  <Repeater on="$items">
    <Text name="response_{{{{idx}}}}" value="$items[{{{{idx}}}}].body" />
    <Rating name="rating_{{{{idx}}}}" toName="response_{{{{idx}}}}"
            maxRating="7" />
    <Choices name="flags_{{{{idx}}}}" toName="response_{{{{idx}}}}"
             choice="multiple">
{flags}
    </Choices>
  </Repeater>
  <List name="responses" value="$items" title="Answers" />
  <Ranker name="ranking" toName="responses">
{buckets}
  </Ranker>
  <Choices name="sensitive" toName="prompt" choice="multiple">
    <Choice value="sensitive" />
  </Choices>
  <TextArea name="labeler" toName="prompt" maxSubmissions="1" />
</View>
"""
