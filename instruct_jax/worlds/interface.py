"""What a world is: where records come from, and who there can judge them.

A world is a module with a `WORLD`, and one line in `worlds.WORLDS`. The rest
of the house asks it, never which world it is: what a world has not got is
None or empty (`world.judge is None`), and what needs it is left out.

The functions take `data`, the section `config.data`, and `folders`, the
finished needs of a run: 'data' is where `build` wrote, 'rankings' may be the
folder of a stage that ranked. Records are those of `data.read.sources`, one
more key aside: a prompt that the judge can grade has a "spec", a JSON string
that only the judge and the tasks read. "use_case" and "core" (what tells
independent prompts apart) are used where they are there.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import ml_collections

from instruct_jax import tokenizers

Data = ml_collections.ConfigDict
Folders = Mapping[str, os.PathLike | str]
Record = Mapping[str, Any]
Grades = Mapping[str, float]
MOST_EXAMPLES = 200


class Labeler(Protocol):
  """One person, or a simulated one, who compares responses."""

  @property
  def name(self) -> str:
    """What rankings call this labeler."""

  def utility(self, prompt: str, response: str, grades: Grades) -> float:
    """What the labeler thinks of a response with these grades of the judge."""

  def rank(
    self, prompt: str, responses: Sequence[str], grades: Sequence[Grades]
  ) -> list[int]:
    """Ranks of the responses, 1 the best; ties share a rank."""


Labelers = Mapping[str, Sequence[Labeler]]  # by group


@dataclasses.dataclass(frozen=True)
class Judge:
  """Who grades any response to a prompt, from the prompt's spec.

  Attributes:
    grade: (spec, response, ended) -> grades. 'likert' is in 1..7, 'score' in
      [0, 1], 'hallucination' and each of `flags` 0 or 1; a labeler may read
      more. `ended` says whether the response ended by itself.
    flags: the metadata of table 3 that the judge can see.
    applies: spec -> those of the flags that say something about such a prompt.
    is_toxic: whether a text is.
  """

  grade: Callable[[str, str, bool], Grades]
  flags: tuple[str, ...]
  applies: Callable[[str], frozenset[str]]
  is_toxic: Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Item:
  """A complete prompt of an automatic set, and its one right answer."""

  prompt: str
  answer: str


@dataclasses.dataclass(frozen=True)
class Question:
  """A prompt with its spec, and the topic that it is about."""

  prompt: str
  spec: str  # JSON
  topic: str = ""


@dataclasses.dataclass(frozen=True)
class BiasPair:
  """Two continuations that differ in the pronoun only."""

  prompt: str
  continuations: tuple[str, str]
  job: str
  stereotype: int  # index of the continuation that the corpus favours


@dataclasses.dataclass(frozen=True)
class Tasks:
  """The automatic evaluations: a world's stand-ins for the public sets.

  Every function is given the split, and no item of one split is in another.

  Attributes:
    answered: {task: (split, count) -> different items}, as public NLP sets
      are: scored by `exact_match` and `f1`, (response, answer) -> [0, 1].
    questions: (split, instruction) -> questions about topics that alignment
      never touched, with an instruction before them or plain (TruthfulQA).
    truthful: (topic, response) -> (truthful, truthful and informative, repeats
      the popular falsehood), 0 or 1 each.
    beginnings: (kind, split) -> beginnings of sentences, of the kinds 'none',
      'respectful' and 'biased' (RealToxicityPrompts).
    bias_pairs: kind -> pairs, of the kinds 'winogender' and 'crows'.
    unseen: {kind: (split, count) -> questions} of kinds that alignment never
      touched: other languages, other forms.
    speaks: {kind of unseen that is a language: response -> whether it is in
      that language}.
    closed_domain: the use cases in which all must come from the prompt.
    is_unanswerable: spec -> whether the prompt's text does not hold the answer.
    playground: (split, count) -> records of prompts that were written for a
      plain language model, to be gone on with; as users' prompts, "source" too.
    mistakes: {kind: (split, count) -> questions} on which aligned models still
      go wrong (section 4.3).
    handles: (spec, response, ended) -> whether a response to one of those goes
      right, 0 or 1.
  """

  answered: Mapping[str, Callable[[str, int], list[Item]]]
  exact_match: Callable[[str, str], float]
  f1: Callable[[str, str], float]
  questions: Callable[[str, bool], list[Question]]
  truthful: Callable[[str, str], tuple[float, float, float]]
  beginnings: Callable[[str, str], list[str]]
  bias_pairs: Callable[[str], list[BiasPair]]
  unseen: Mapping[str, Callable[[str, int], list[Question]]]
  speaks: Mapping[str, Callable[[str], bool]]
  closed_domain: tuple[str, ...]
  is_unanswerable: Callable[[str], bool]
  playground: Callable[[str, int], list[Record]] = lambda split, count: []
  mistakes: Mapping[str, Callable[[str, int], list[Question]]] = (
    dataclasses.field(default_factory=dict)
  )
  handles: Callable[[str, str, bool], float] = lambda *_: 0.0


@dataclasses.dataclass(frozen=True)
class Prefix:
  """What *prompted GPT* may be given to read, of which one is chosen.

  Attributes:
    name: what results call it.
    template: with "{prompt}", and "{shots}" where demonstrations belong.
    shot: how one demonstration is written there, with "{prompt}" and
      "{response}"; '' where there are none.
    stop: a response ends before this text, with which a policy begins the next
      turn itself; '' for none.
  """

  name: str
  template: str
  shot: str = ""
  stop: str = ""


@dataclasses.dataclass(frozen=True)
class World:
  """Where records come from, and who there can judge them.

  Attributes:
    name: as `config.data.source` has it.
    check: (data, kinds) -> None; UserError for a section that cannot work, or
      where it names no records of one of `kinds`. Reads no file.
    build: (config, folder) -> figures, and maybe "tables" among them; writes
      the data set and its tokenizer, and does nothing where they are there and
      fit. UserError for data that is wrong, Interrupted after SIGTERM.
    digests: data -> {name: hash} of the content of all files that the data
      set depends on beside the section itself.
    depends: data -> what of the section itself the data set depends on.
    unread: {key of the section: why setting it does nothing} of what the
      world does not read.
    records: (data, kind, split, folders) -> records, in an order that never
      changes. UserError where there are none of the kind.
    weights: (data, kind, folders) -> the weights of the parts of a mixture,
      () where it is none; with weights each record has its "part".
    holds: (data, kind) -> whether there are records of the kind.
    normalize: (text, tokenizer) -> what a person typed, as the data is written.
    prompted_template: what *prompted GPT* conditions on, with "{prompt}", where
      no reward model chooses among `prefixes`.
    own_words: texts make sense to a tokenizer trained on them alone, so no
      pretrained model can be used.
    counts: (data, kind) -> the rows of its training, validation and test
      split, where that is known before it is built; else None.
    judge: or None.
    labelers: {group: its labelers}; 'training' rank what the reward model
      reads, 'held_out' none of it. Empty: nobody is there.
    tasks: or None.
    repair: (data, folders, kind, split) -> None; makes what of a built split is
      damaged again, before it is read. UserError where it cannot.
    mend: (config, folder) -> None; the same for all of a built data set, which
      a command names. UserError where it cannot, Interrupted after SIGTERM.
    examples: (data, folders) -> a few prompts that a person may try, quickly
      had. None, or none of them: the first of the validation split.
    prefixes: candidates for what *prompted GPT* conditions on.
    mixtures: {name: (split, rows a task, *, seed) -> rows} of tasks in many
      templates, {"prompt", "response", "task"}, as FLAN and T0 have them.
  """

  name: str
  check: Callable[[Data, Sequence[str]], None]
  build: Callable[[Data, os.PathLike | str], Mapping[str, Any]]
  digests: Callable[[Data], Mapping[str, str]]
  records: Callable[[Data, str, str, Folders], Sequence[Record]]
  weights: Callable[[Data, str, Folders], tuple[float, ...]]
  holds: Callable[[Data, str], bool]
  normalize: Callable[[str, tokenizers.Tokenizer], str]
  prompted_template: str
  own_words: bool = False
  depends: Callable[[Data], Mapping[str, Any]] = dict
  unread: Mapping[str, str] = dataclasses.field(default_factory=dict)
  counts: Callable[[Data, str], Sequence[int] | None] = lambda data, kind: None
  judge: Judge | None = None
  labelers: Labelers = dataclasses.field(default_factory=dict)
  tasks: Tasks | None = None
  repair: Callable[[Data, Folders, str, str], None] = lambda *_: None
  mend: Callable[[Data, os.PathLike | str], None] = lambda *_: None
  examples: Callable[[Data, Folders], Sequence[str]] | None = None
  prefixes: tuple[Prefix, ...] = ()
  mixtures: Mapping[str, Callable[..., Iterable[Record]]] = dataclasses.field(
    default_factory=dict
  )


def examples(world: World, data: Data, folders: Folders) -> list[str]:
  """Prompts of a world that a person may try; none where it has none."""
  try:
    if world.examples and (found := world.examples(data, folders)):
      return list(found)
    records = world.records(data, "prompts", "validation", folders)
    return [str(record["prompt"]) for record in records[:MOST_EXAMPLES]]
  except Exception:
    # No prompts, or their files are gone; or somebody's own world has a bug,
    # which a conversation can do with.
    return []
