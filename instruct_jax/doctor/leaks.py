"""Prompts that are in more than one split of the data."""

from collections.abc import Iterator

from etils import epath

from instruct_jax.doctor import finding, record

_SPLITS = ("train", "validation", "test")
_RANKINGS = ("rankings", "label")  # jobs
_KINDS = ("demonstrations", "prompts")
_LEAKED = 0.01


def data_leak(run: record.Record) -> finding.Finding | None:
  """The paper splits by user, and duplicates go first (section 3.2); data sets
  built here share no prompt between splits. Above 1 % is accused: of people's
  own files a greeting may be in two."""
  if run.job == "dataset":
    sides = {
      split: {kind: _prompts(run.folder, kind, split) for kind in _KINDS}
      for split in _SPLITS
    }
  elif run.job in _RANKINGS:
    sides = {split: {"rankings": _ranked(run, split)} for split in _SPLITS}
    if data := run.needs.get("data"):
      sides["test"]["prompts"] = _prompts(data, "prompts", "test")
  else:
    return None
  train = sides["train"]
  said = [
    line
    for split in _SPLITS[1:]
    for kind, held_out in sides[split].items()
    for other, seen in train.items()
    if (line := _shared(held_out, seen, f"{split} {kind}", f"train {other}"))
  ]
  if not said:
    return None
  return finding.Finding(
    "data_leak",
    f"{'; '.join(said)}: what is measured there was trained on",
    "Remove duplicates before splitting and split by user (the paper, section"
    " 3.2 and appendix A.2: no user is in two splits); python -m"
    " instruct_jax.data does both. Then build the data set, and all that was"
    " trained on it, anew.",
  )


def _shared(held_out: set[str], seen: set[str], where: str, other: str) -> str:
  both = held_out & seen
  if len(both) <= _LEAKED * len(held_out):
    return ""
  example = min(both)
  return (
    f"{len(both)} of {len(held_out)} prompts in {where} are in {other}, too,"
    f" as {example[:60]!r}"
  )


def _ranked(run: record.Record, split: str) -> set[str]:
  return set(map(_normal, _of(record.lines(run.folder / f"{split}.jsonl"))))


def _prompts(folder: epath.Path, kind: str, split: str) -> set[str]:
  """Of JSON lines as a data set of files has them, or of ArrayRecord."""
  rows = record.lines(folder / f"{kind}-{split}.jsonl")
  found = set(map(_normal, _of(rows)))
  if found:
    return found
  infos = sorted(folder.glob(f"*/{kind}/*/dataset_info.json"))
  infos = [path for path in infos if "incomplete" not in path.parent.name]
  return set(map(_normal, _stored(infos[-1].parent, split))) if infos else set()


def _of(rows) -> Iterator[str]:
  for row in rows:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
      yield prompt


def _stored(folder: epath.Path, split: str) -> Iterator[str]:
  import tensorflow_datasets as tfds  # slow to import; little else needs it

  try:
    rows = tfds.builder_from_directory(folder).as_data_source(split)
    for row in rows.__getitems__(range(len(rows))):
      prompt = row.get("prompt")
      if isinstance(prompt, bytes):
        yield prompt.decode("utf-8", "replace")
  except Exception:
    # A copy without all of its files is not judged; of one that is torn the
    # library raises whatever its parsers do.
    return


def _normal(prompt: str) -> str:
  return " ".join(prompt.lower().split())


FINDINGS = (data_leak,)
