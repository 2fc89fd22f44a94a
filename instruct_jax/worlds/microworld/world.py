"""The microworld as the rest of the house sees it."""

import functools
import json
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, imports
from instruct_jax.data.read import kinds as kinds_lib
from instruct_jax.data.read import sources, typed
from instruct_jax.tokenizers import start, templates
from instruct_jax.worlds import interface
from instruct_jax.worlds.microworld import (
  claims,
  judge,
  labelers,
  mistakes,
  mixtures,
  playground,
  probes,
  prompts,
  spelling,
  tables,
  tasks,
  use_cases,
  vocabulary,
)

KINDS = ("pretraining", "demonstrations", "prompts")
UNREAD = (  # files, and how they are cleaned and split
  *kinds_lib.KINDS,
  "validation_fraction",
  "test_fraction",
  "prefix",
  "per_user",
  "remove_pii",
  "tokenizer_sample",
  "loss_on",
)
ENOUGH = 768  # entries of a vocabulary that needs no counting
CODED_SHARE = 0.3  # of the words, for an answer to count as zorp


def check(data: interface.Data, kinds: Sequence[str]) -> None:
  """UserError for a section that cannot work: every split needs its rows."""
  del kinds  # It has all that are not somebody's judgment.
  templates.check(data.template)
  start.check(data.start, trained=True)
  if data.tokenizer != "word":
    raise errors.UserError(
      f"data.tokenizer={data.tokenizer}: the microworld has a tokenizer of its"
      " own words, word; take the :files variant for another"
    )
  if data.vocab_size < ENOUGH and data.vocab_size < _needed():
    raise errors.UserError(
      f"data.vocab_size={data.vocab_size}: the microworld's words and its"
      f" special tokens need {_needed()} at least"
    )
  for kind in KINDS:
    if not all(data.sizes[kind]):
      raise errors.UserError(
        f"data.sizes.{kind}={data.sizes[kind]}: the microworld needs rows in"
        " every split: training, validation, test"
      )


@functools.cache
def _needed() -> int:
  """Entries of the smallest vocabulary: every word, and the special tokens."""
  return len(vocabulary.words()) + tokenizers.EOT_ID + 1


def build(
  config: ml_collections.ConfigDict, folder: os.PathLike | str
) -> dict[str, float]:
  """Builds what is missing; raises as `builder.build`."""
  from instruct_jax.worlds.microworld import builder  # brings TFDS: slow

  return builder.build(config, folder)


def records(
  data: interface.Data,
  kind: str,
  split: str,
  folders: Mapping[str, os.PathLike | str],
) -> Sequence[interface.Record]:
  """The rows of a kind and split, from ArrayRecord files; or a stage's."""
  ranked = sources.open_rankings(data, kind, split, folders)
  if ranked is not None:
    return ranked
  # Slow to import, so not before; but not while a step is saved.
  tfds = imports.alone("tensorflow_datasets")
  root = epath.Path(folders["data"])
  infos = sorted(root.glob(f"*/{kind}/*/dataset_info.json"))
  infos = [path for path in infos if "incomplete" not in path.parent.name]
  if not infos:
    raise errors.UserError(f"{root}: no '{kind}' data set here; build it again")
  folder = infos[-1].parent
  source = tfds.builder_from_directory(folder).as_data_source(split)
  # All at once: one by one, reading the texts takes ten times as long.
  read = source.__getitems__(range(len(source)))
  return [
    typed.plain_row(record, f"{folder}, record {n}")
    for n, record in enumerate(read, 1)
  ]


def normalize(text: str, tokenizer: tokenizers.Tokenizer) -> str:
  """A text as the world writes it, whatever the tokenizer."""
  del tokenizer
  return spelling.normalize(text)


def depends(data: interface.Data) -> dict[str, Any]:
  """What of `config.data` the data set depends on."""
  return {name: data[name] for name in tables.SETTINGS}


def applies(spec: str) -> frozenset[str]:
  """Hallucination counts where there is a text to keep to, constraints where
  one is stated, all other flags always."""
  parsed = json.loads(spec)
  stated = any(parsed.get(k) for k in ("constraints", "language", "polite"))
  silent = set() if parsed.get("source") else {"hallucination"}
  silent |= set() if stated else {"satisfies_constraint"}
  return frozenset(judge.FLAGS) - silent


def is_unanswerable(spec: str) -> bool:
  """Whether the answer that a spec asks for is nowhere in its text."""
  parsed = json.loads(spec)
  return "answer" in parsed and parsed["answer"] is None


def examples(data: interface.Data, folders: interface.Folders) -> list[str]:
  """A validation prompt of every use case that fits on a line."""
  del data, folders
  rng = random.Random(0)
  return [
    prompts.draw(rng, "validation", use_case=use_case).text
    for use_case in ("open_qa", "generation", "brainstorming", "closed_qa",
                     "rewrite", "classification", "chat")
  ]  # fmt: skip


def _questions(asked: Sequence[use_cases.Prompt]) -> list[interface.Question]:
  return [
    interface.Question(p.text, json.dumps(p.spec), p.spec.get("subject", ""))
    for p in asked
  ]


# In the words of the corpus; only the first stands in it as it is.
PREFIXES = (
  interface.Prefix("assistant", tables.PROMPTED_TEMPLATE),
  interface.Prefix(
    "kind_assistant",
    "a kind and clever assistant answers a user . \n user : {prompt} \n"
    " assistant :",
    stop="\n user :",
  ),
  interface.Prefix(
    "question",
    "question : {prompt} \n full answer :",
    stop="\n question :",
  ),
  interface.Prefix(
    "dialogue",
    "a helpful assistant answers a user . \n {shots}user : {prompt} \n"
    " assistant :",
    shot="user : {prompt} \n assistant : {response} \n ",
    stop="\n user :",
  ),
  interface.Prefix(
    "dialogues",
    "{shots}" + tables.PROMPTED_TEMPLATE,
    shot=tables.PROMPTED_TEMPLATE + " {response} \n ",
    stop="\n a helpful assistant",
  ),
)

TASKS = interface.Tasks(
  answered={
    name: lambda split, count, name=name: tasks.examples(name, split, count)
    for name in tasks.TASKS
  },
  exact_match=tasks.exact_match,
  f1=tasks.f1,
  questions=lambda split, instruction: _questions(
    probes.truthfulness(split, instruction=instruction)
  ),
  truthful=probes.truthful,
  beginnings=probes.toxicity,
  bias_pairs=probes.bias_pairs,
  unseen={
    "zorp": lambda split, count: _questions(
      probes.held_out_language(split, count)
    ),
    "code": lambda split, count: _questions(probes.held_out_code(split, count)),
    "form": lambda split, count: _questions(
      probes.held_out_format(split)[:count]
    ),
  },
  speaks={"zorp": lambda text: claims.parse(text).zorp > CODED_SHARE},
  closed_domain=prompts.CLOSED_DOMAIN,
  is_unanswerable=is_unanswerable,
  playground=lambda split, count: [
    prompt.record() for prompt in playground.prompts(split, count)
  ],
  mistakes={
    kind: functools.partial(mistakes.questions, kind) for kind in mistakes.KINDS
  },
  handles=mistakes.handles,
)

WORLD = interface.World(
  name="microworld",
  check=check,
  build=build,
  digests=lambda data: {},
  depends=depends,
  unread=dict.fromkeys(
    UNREAD, "the microworld does not read it; name the :files variant"
  ),
  records=records,
  weights=lambda data, kind, folders: (),
  holds=lambda data, kind: kind in KINDS,
  normalize=normalize,
  prompted_template=tables.PROMPTED_TEMPLATE,
  prefixes=PREFIXES,
  mixtures=mixtures.OF,
  own_words=True,
  counts=lambda data, kind: data.sizes[kind] if kind in KINDS else None,
  judge=interface.Judge(
    grade=judge.grade,
    flags=judge.FLAGS,
    applies=applies,
    is_toxic=judge.is_toxic,
  ),
  labelers={group: panel() for group, panel in labelers.GROUPS.items()},
  tasks=TASKS,
  examples=examples,
)
