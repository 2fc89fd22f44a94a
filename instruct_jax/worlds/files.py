"""People's own files as a world: records, but nobody who judges them."""

import hashlib
import itertools

from etils import epath

from instruct_jax import tokenizers
from instruct_jax.data import fingerprint, prepare
from instruct_jax.data.batch import mixtures
from instruct_jax.data.read import files, kinds, sources
from instruct_jax.worlds import interface


def digests(data: interface.Data) -> dict[str, str]:
  """A hash of the content of the files of each kind that `data` names."""
  by_kind = fingerprint.of(data)["files"]
  return {
    f"data.{kind}": hashlib.sha256(
      str(sorted(digests_of.values())).encode()
    ).hexdigest()[:16]
    for kind, digests_of in by_kind.items()
  }


def holds(data: interface.Data, kind: str) -> bool:
  """Whether `data` names files of the kind."""
  return bool(data[kind])


def normalize(text: str, tokenizer: tokenizers.Tokenizer) -> str:
  """A text as the tokenizer normalises what it is trained on."""
  return tokenizer.normalize(text)


def examples(data: interface.Data, folders: interface.Folders) -> list[str]:
  """The first prompts, and texts' beginnings, of the written validation split.

  A checkpoint that comes without a data set has none.
  """
  del data
  for kind in ("prompts", "demonstrations"):
    path = epath.Path(folders["data"]) / f"{kind}-validation.jsonl"
    if path.exists():
      rows = itertools.islice(files.unit_rows(path), interface.MOST_EXAMPLES)
      records = (kinds.with_prompt(record, kind) for _, record in rows)
      return [str(record["prompt"]) for record in records]
  return []


PROMPTED_TEMPLATE = (
  "A helpful assistant answers a user.\nUser: {prompt}\nAssistant:"
)
PREFIXES = (
  interface.Prefix("assistant", PROMPTED_TEMPLATE, stop="\nUser:"),
  interface.Prefix(
    "honest_assistant",
    "The assistant below follows the user's instructions exactly. It is helpful"
    " and honest, keeps to the point, and says so when it does not know."
    "\n\nUser: {prompt}\nAssistant:",
    stop="\nUser:",
  ),
  interface.Prefix(  # as Taori et al. 2023 (Alpaca) write instructions
    "instruction",
    "Below is an instruction that describes a task. Write a response that"
    " appropriately completes the request.\n\n### Instruction:\n{prompt}\n\n"
    "### Response:\n",
    stop="\n###",
  ),
  interface.Prefix(
    "dialogue",
    "A helpful assistant answers a user.\n{shots}User: {prompt}\nAssistant:",
    shot="User: {prompt}\nAssistant: {response}\n",
    stop="\nUser:",
  ),
  interface.Prefix(
    "instructions",
    "{shots}Instruction: {prompt}\nOutput:",
    shot="Instruction: {prompt}\nOutput: {response}\n\n",
    stop="\nInstruction:",
  ),
)

WORLD = interface.World(
  name="files",
  check=sources.check,
  build=prepare.build,
  digests=digests,
  depends=fingerprint.settings,
  unread={
    "world_seed": "the world's seed is the microworld's; files are as they are",
    "quality": "it is for the microworld; files are taken as they are",
    "sizes": "it is for the microworld; files are taken whole",
  },
  records=sources.open_source,
  weights=mixtures.weights_of,
  holds=holds,
  normalize=normalize,
  prompted_template=PROMPTED_TEMPLATE,
  prefixes=PREFIXES,
  repair=prepare.repair,
  mend=prepare.mend,
  examples=examples,
)
