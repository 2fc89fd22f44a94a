"""What the peers with torch share: the weights, the probe, left padding."""

import hashlib
import importlib.metadata
import pathlib
from typing import Any

import channel
import torch
import transformers

PROBE = (2, 5, 11, 3, 17, 30, 7, 4)  # as in suite/work.py; a test holds it
PROBED = 64
RATE = 1e-6  # the learning rate of all sides
PAD, END = 0, 1

torch.set_num_threads(channel.THREADS)
transformers.logging.set_verbosity_error()


def policy(spec: dict[str, Any]) -> Any:
  """The policy, float32."""
  return transformers.AutoModelForCausalLM.from_pretrained(
    pathlib.Path(spec["folder"]) / "policy", dtype=torch.float32
  )


def scalar(spec: dict[str, Any]) -> Any:
  """The reward model, float32."""
  model = transformers.AutoModelForSequenceClassification.from_pretrained(
    pathlib.Path(spec["folder"]) / "reward", dtype=torch.float32, num_labels=1
  )
  model.config.pad_token_id = PAD
  return model


def tokenizer(spec: dict[str, Any], folder: pathlib.Path) -> Any:
  """One that the trainers ask for; the token lists never pass through it."""
  import tokenizers

  count = spec["model"]["vocab_size"]
  words = {f"t{i}": i for i in range(count)}
  path = folder / "tokenizer.json"
  tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t2")).save(
    str(path)
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(path),
    pad_token=f"t{PAD}",
    eos_token=f"t{END}",
    padding_side="left",
    model_max_length=spec["model"]["context_length"],
  )


def facts(
  spec: dict[str, Any], model: Any, *names: str, role: str = "policy"
) -> dict[str, Any]:
  """What a worker says when it is ready: weights, probe, versions."""
  file = pathlib.Path(spec["folder"]) / role / "model.safetensors"
  with torch.no_grad():
    said = model(torch.tensor([PROBE])).logits[0]
  last = said if role == "reward" else said[-1, :PROBED]
  names = ("torch", "transformers", *names)
  return {
    "weights": hashlib.sha256(file.read_bytes()).hexdigest()[:16],
    "probe": last.double().tolist(),
    "versions": {name: importlib.metadata.version(name) for name in names},
  }


def left(rows: list[list[int]], width: int) -> tuple[Any, Any]:
  """(tokens, mask) [N, width], padded on the left."""
  tokens = torch.full((len(rows), width), PAD, dtype=torch.long)
  mask = torch.zeros((len(rows), width), dtype=torch.long)
  for i, row in enumerate(rows):
    tokens[i, -len(row) :], mask[i, -len(row) :] = torch.tensor(row), 1
  return tokens, mask


def lengths_of(responses: Any) -> list[int]:
  """Tokens of each row up to its end, with it; all where there is none."""
  found = []
  for row in responses.tolist():
    found.append(row.index(END) + 1 if END in row else len(row))
  return found


def as_told(spec: dict[str, Any], responses: list[list[int]]) -> bool:
  """Whether the tokens are those that the weights give (suite/weights.py)."""
  last = spec["model"]["vocab_size"] - 1
  for prompt, response in zip(spec["prompts"], responses):
    token = prompt[-1]
    for one in response:
      token = token - 1 if token > END else last
      if one != token:
        return False
  return True
