"""WMT 2015, French into English (Bojar et al. 2015): discussions of news.

Read as published (`newsdiscusstest2015-fren-src.fr.sgm` and `-ref.en.sgm`), as
two files with a segment a line (sacrebleu's `wmt15.fr-en.src`, `.ref`), or as
rows with fr and en, alone or under translation. BLEU is sacrebleu's, in
percent, its signature a note; its standard error that of 1,000 bootstrap draws.

The prompt is the paper's: its instruction, and the lines of its released
samples. With shots=N, N pairs stand before (the paper: 15), from the
development set where it is there.
"""

import dataclasses
import html
import re
from collections.abc import Iterator, Mapping

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import files, typed
from instruct_jax.measuring import contract, prompts, shots, table
from instruct_jax.scoring import tasks, texts

INSTRUCTION = "Translate the following sentences from French into English."
MAX_TOKENS = 128
_SEGMENT = re.compile(r"<seg\b[^>]*>(.*)</seg>", re.IGNORECASE)
_OPENING = re.compile(r"\s*<seg\b", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Pair:
  """A text in both languages."""

  french: str
  english: str

  @property
  def asked(self) -> str:
    """What asks for the translation."""
    return f"French: {self.french}\nEnglish:"


def measure(bench: contract.Bench) -> contract.Measured:
  """BLEU by sacrebleu, in percent."""
  pairs = _pairs(bench, "source", "reference")
  choose = shots.chooser(
    bench,
    lambda: [
      (one.french, f"{one.asked} {one.english}\n\n")
      for one in _pairs(bench, "examples", "examples_reference") or pairs
    ],
  )
  asked = bench.some(pairs)
  said = prompts.ask(
    bench.model,
    [
      prompts.Prompt(
        start=f"{INSTRUCTION}\n\n",
        examples=choose(one.french),
        end=one.asked,
      )
      for one in asked
    ],
    max_tokens=MAX_TOKENS,
  )
  samples = [
    {"context": prompt, tasks.SAMPLE: text, tasks.REFERENCES: [one.english]}
    for one, prompt, text in zip(asked, said.prompts, said.texts)
  ]
  value, error, signature = texts.bleu(
    said.texts, [[one.english] for one in asked]
  )
  metrics = {"bleu": tasks.Estimate(value, error, len(samples))}
  return contract.Measured(
    metrics, samples, said.counts, (f"sacrebleu: {signature}",)
  )


def _pairs(bench, source, reference) -> list[Pair]:
  """Of two roles; none where there is no file of the first."""
  if source not in bench.files:
    return []
  spec = bench.files[source]
  return table.filled(read(spec, bench.files.get(reference)), spec)


def read(source: str, reference: str | None = None) -> Iterator[Pair]:
  """The pairs of two files, or of rows that hold both."""
  units = files.units(source)
  if all(isinstance(one, str) or files.holds_objects(one) for one in units):
    for where, row in files.rows(source):
      both = row.get("translation", row)
      if not isinstance(both, Mapping):
        raise errors.UserError(
          f'{where}: "translation" should be an object with fr and en, not'
          f" {typed.shown(both)}"
        )
      yield Pair(table.text(both, "fr", where), table.text(both, "en", where))
    return
  if reference is None:
    raise errors.UserError(
      f"{source}: French alone; name the file of the English text, too (the"
      " set's role reference, of examples examples_reference)"
    )
  french, english = list(_segments(source)), list(_segments(reference))
  if len(french) != len(english):
    raise errors.UserError(
      f"{source} has {len(french)} segments and {reference} {len(english)}; as"
      " many are right"
    )
  yield from map(Pair, french, english)


def _segments(spec: str) -> Iterator[str]:
  for path in files.paths(spec):
    lines = list(files.lines(path))
    if any(_OPENING.match(line) for _, line in lines):
      yield from _of_sgm(path, lines)
    else:
      yield from (line.strip() for _, line in lines)


def _of_sgm(path: epath.Path, lines) -> Iterator[str]:
  """The segments, one a line, as sacrebleu reads them."""
  for number, line in lines:
    if not _OPENING.match(line):
      continue
    found = _SEGMENT.search(line)
    if found is None:
      raise errors.UserError(
        f'{path}:{number}: a segment should be <seg id="1">...</seg> on one'
        " line"
      )
    yield html.unescape(found[1]).strip()


SET = contract.Set(
  about="WMT 2015: French discussions of news into English",
  files={
    "source": (
      "newsdiscusstest2015-fren-src.fr.sgm",
      "wmt15.fr-en.src",
      "*wmt15*fr-en*/test*",
      "*wmt15*fr*en*.json*",
    ),
    "reference": ("newsdiscusstest2015-fren-ref.en.sgm", "wmt15.fr-en.ref"),
    "examples": ("newsdiscussdev2015-fren-src.fr.sgm",),
    "examples_reference": ("newsdiscussdev2015-fren-ref.en.sgm",),
  },
  optional=("reference", "examples", "examples_reference"),
  published="https://www.statmt.org/wmt15/translation-task.html",
  headline="bleu",
  options={"shots": "translated texts before each"},
  plain=("bleu",),
  measure=measure,
)
