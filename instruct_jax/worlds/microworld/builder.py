"""The microworld as a TFDS dataset in ArrayRecord files, with its tokenizer.

TensorFlow is never imported. Everything is a function of `world_seed`, `sizes`
and `quality`; a build that was killed starts again after the last kind that
was finished, and ends with the same bytes.
"""

import contextlib
import functools
import io
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import ml_collections
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import writer as writer_lib
from tensorflow_datasets.proto import tf_example_pb2

from instruct_jax import tokenizers
from instruct_jax.base import interrupt, progress, storage
from instruct_jax.worlds.microworld import (
  answers,
  corpus,
  prompts,
  tables,
  vocabulary,
)

_PROMPT = ("prompt", "core", "use_case", "user", "spec", "source")
_COUNTED = 500  # rows between two looks at the clock
FIELDS = {
  "pretraining": ("text",),
  "demonstrations": (*_PROMPT, "response", "quality"),
  "prompts": _PROMPT,
}


def _pretraining(rng: random.Random, split: str, count: int) -> Iterator[dict]:
  del split  # every document may only use what is in the training split
  for _ in range(count):
    yield {"text": corpus.document(rng)["text"]}


def _prompts(rng: random.Random, split: str, count: int) -> Iterator[dict]:
  for prompt, user in prompts.sample(rng, split, count):
    yield prompt.record(user=user)


def _demonstrations(
  rng: random.Random, split: str, count: int, quality: float
) -> Iterator[dict]:
  for prompt, user in prompts.sample(rng, split, count):
    label = "ideal" if rng.random() < quality else "flawed"
    maker = answers.ideal if label == "ideal" else answers.flawed
    response = maker(rng, prompt.spec)
    yield prompt.record(user=user, response=response, quality=label)


def records(
  kind: str, split: str, count: int, *, world_seed: int, quality: float
) -> Iterator[dict[str, str]]:
  """The rows of one split of one kind, in their order."""
  rng = random.Random(f"{world_seed} {kind} {split}")
  makers = {
    "pretraining": _pretraining,
    "prompts": _prompts,
    "demonstrations": functools.partial(_demonstrations, quality=quality),
  }
  return makers[kind](rng, split, count)


class _Writer(writer_lib.ExampleWriter):
  """Writes the same bytes in every process: a map's order is not fixed."""

  def write(self, path: os.PathLike, examples: Iterable) -> object:
    return super().write(path, ((k, self._canonical(e)) for k, e in examples))

  def _canonical(self, example: bytes) -> bytes:
    message = tf_example_pb2.Example.FromString(example)
    return message.SerializeToString(deterministic=True)


class Microworld(tfds.core.GeneratorBasedBuilder):
  """Pretraining text, demonstrations and prompts of the embedded world."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS: ClassVar[list] = [
    tfds.core.BuilderConfig(name=kind) for kind in FIELDS
  ]
  # Nothing is downloaded; without this TFDS looks for the checksums of what is.
  url_infos: ClassVar[dict] = {}

  def __init__(
    self,
    *,
    sizes: Mapping[str, Sequence[int]],
    world_seed: int,
    quality: float,
    line: progress.Progress,
    **kwargs: Any,
  ):
    self._sizes = sizes
    self._world_seed = world_seed
    self._quality = quality
    self._line = line
    super().__init__(file_format="array_record", **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    fields = FIELDS[self.builder_config.name]
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {field: tfds.features.Text() for field in fields}
      )
    )

  def _example_writer(self) -> writer_lib.ExampleWriter:
    return _Writer(file_format=self.info.file_format)

  def _split_generators(self, dl_manager: object) -> dict[str, Iterator]:
    del dl_manager
    kind = self.builder_config.name
    counts = zip(tables.SPLITS, self._sizes[kind], strict=True)
    return {
      split: self._generate_examples(split, count)
      for split, count in counts
      if count
    }

  def _generate_examples(self, split: str, count: int) -> Iterator:
    rows = records(
      self.builder_config.name,
      split,
      count,
      world_seed=self._world_seed,
      quality=self._quality,
    )
    for index, row in enumerate(rows):
      if index % 1000 == 0:
        interrupt.check()
      yield index, row
      if (index + 1) % _COUNTED == 0 or index + 1 == count:
        self._line.advance(index % _COUNTED + 1)


class _Texts(Sequence):
  """A TFDS data source whose bytes are str."""

  def __init__(self, source: Any):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: Any) -> Any:
    if not -len(self) <= index < len(self):
      raise IndexError(index)
    return self.__getitems__([index % len(self)])[0]

  def __getitems__(self, indices: Sequence[int]) -> list[dict[str, str]]:
    """Many rows at once: a third of the time that one by one takes."""
    return [
      {name: value.decode() for name, value in row.items()}
      for row in self._source.__getitems__(indices)
    ]

  def __iter__(self) -> Iterator[dict[str, str]]:
    return iter(self.__getitems__(range(len(self))))


def source(folder: os.PathLike | str, kind: str, split: str) -> Sequence[dict]:
  """A built split as a random-access sequence of rows of str."""
  path = _path(epath.Path(folder), kind)
  return _Texts(tfds.builder_from_directory(path).as_data_source(split))


def _path(folder: epath.Path, kind: str) -> epath.Path:
  """Where a kind lies, once it is whole."""
  return folder / "microworld" / kind / str(Microworld.VERSION)


def _settings(data: ml_collections.ConfigDict) -> dict:
  sizes = {kind: list(data.sizes[kind]) for kind in FIELDS}
  return {
    **{name: data[name] for name in tables.SETTINGS},
    "sizes": sizes,
  }


def _clear(folder: epath.Path, settings: dict) -> None:
  """Removes half-written parts, and everything of other settings."""
  begun = folder / "settings.json"
  if not begun.exists() or storage.read_json(begun) != settings:
    for name in ("microworld", "tokenizer"):
      if (folder / name).exists():
        (folder / name).rmtree()
    for name in ("summary.json", "settings.json"):
      (folder / name).unlink(missing_ok=True)
    storage.write_json(begun, settings)
  for half in folder.glob("microworld/*/*incomplete*"):
    half.rmtree()


def _build_kind(
  folder: epath.Path, kind: str, settings: dict, line: progress.Progress
) -> None:
  """One kind's splits; TFDS renames its folder when all are written."""
  builder = Microworld(
    config=kind,
    data_dir=str(folder),
    sizes=settings["sizes"],
    world_seed=settings["world_seed"],
    quality=settings["quality"],
    line=line,
  )
  tfds.disable_progress_bar()
  silent = contextlib.redirect_stdout(io.StringIO())  # TFDS announces itself
  with silent, storage.naming(folder):
    builder.download_and_prepare()


def _measure(rows: Sequence[dict[str, str]], field: str) -> dict[str, float]:
  """Rows and words of one split; users and the largest use case of prompts."""
  lengths = [row[field].count(" ") + 1 for row in rows]
  figures = {
    "rows": len(rows),
    "words": sum(lengths),
    "mean_words": sum(lengths) / len(lengths),
    "longest": max(lengths),
  }
  if field == "prompt":
    cases = [row["use_case"] for row in rows]
    closed = sum(cases.count(case) for case in prompts.CLOSED_DOMAIN)
    figures["closed_domain"] = closed / len(rows)
    figures["users"] = len({row["user"] for row in rows})
  return figures


def _train_tokenizer(
  folder: epath.Path, vocab_size: int, start: str
) -> dict[str, float]:
  """The word tokenizer of the training corpus, and how much it covers."""
  documents = [row["text"] for row in source(folder, "pretraining", "train")]
  # A small corpus may miss a word that a prompt or an answer needs.
  all_words = " ".join(sorted(vocabulary.words()))
  tokenizer = tokenizers.train(
    [*documents, all_words],
    folder / "tokenizer",
    kind="word",
    vocab_size=vocab_size,
    start=start,
  )
  seen = {word for text in documents for word in text.split(" ")}
  return {
    "tokenizer/vocab_size": tokenizer.vocab_size,
    "tokenizer/words_in_corpus": len(seen),
  }


def build(
  config: ml_collections.ConfigDict, folder: os.PathLike | str
) -> dict[str, float]:
  """Builds what is missing in `folder`; returns rows, words, ... by split.

  Writes microworld/<kind>/<version>/*.array_record, tokenizer/ and, when all is
  there, summary.json with what it returns.

  Raises:
    UserError: the vocabulary is too small for the world's words.
    Interrupted: SIGTERM came; the next call continues.
  """
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  settings = _settings(config.data)
  _clear(folder, settings)
  done = folder / "summary.json"
  if done.exists():
    return storage.read_json(done)
  summary: dict[str, float] = {}
  rows = {kind: sum(settings["sizes"][kind]) for kind in FIELDS}
  there = sum(n for kind, n in rows.items() if _path(folder, kind).exists())
  with progress.Progress("dataset", sum(rows.values()), start=there) as line:
    for kind, fields in FIELDS.items():
      interrupt.check()
      line.say(kind)
      _build_kind(folder, kind, settings, line)
      for split, count in zip(tables.SPLITS, settings["sizes"][kind]):
        if count:
          figures = _measure(list(source(folder, kind, split)), fields[0])
          summary |= {f"{kind}/{split}_{k}": v for k, v in figures.items()}
    line.say("tokenizer")
    summary |= _train_tokenizer(
      folder, settings["vocab_size"], settings["start"]
    )
  storage.write_json(done, summary)
  return summary
