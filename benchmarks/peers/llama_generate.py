"""llama.cpp generates, through its batch API, in float32.

The weights are written as GGUF first. Prompts are read in batches; then every
step decodes one token of each response that has not ended, all in one batch,
so an ended response costs nothing. Tokens are drawn by numpy for all rows at
once, which is faster here than the library's own chain of samplers.
"""

import ctypes
import hashlib
import importlib.metadata
import json
import pathlib
import tempfile
from typing import Any

import channel
import gguf
import llama_cpp
import numpy as np
from safetensors import numpy as safetensors

PROBE = (2, 5, 11, 3, 17, 30, 7, 4)  # as in suite/work.py
PROBED = 64
END = 1
BATCH = 512  # tokens of a prompt batch
NORMS = ("ln_1", "attn_norm"), ("ln_2", "ffn_norm")
LAYERS = (
  ("attn.c_attn", "attn_qkv"),
  ("attn.c_proj", "attn_output"),
  ("mlp.c_fc", "ffn_up"),
  ("mlp.c_proj", "ffn_down"),
)


def write_gguf(folder: pathlib.Path, path: pathlib.Path) -> None:
  """A GPT-2 of a Hugging Face folder as GGUF, float32, without a tokenizer."""
  config = json.loads((folder / "config.json").read_text())
  given = safetensors.load_file(folder / "model.safetensors")
  given = {k.removeprefix("transformer."): x for k, x in given.items()}
  out = gguf.GGUFWriter(str(path), "gpt2")
  out.add_context_length(config["n_positions"])
  out.add_embedding_length(config["n_embd"])
  out.add_block_count(config["n_layer"])
  out.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
  out.add_head_count(config["n_head"])
  out.add_layer_norm_eps(config["layer_norm_epsilon"])
  out.add_vocab_size(config["vocab_size"])
  out.add_tokenizer_model("no_vocab")
  out.add_file_type(gguf.LlamaFileType.ALL_F32)
  out.add_tensor("token_embd.weight", given["wte.weight"])
  out.add_tensor("position_embd.weight", given["wpe.weight"])
  for part in ("weight", "bias"):
    out.add_tensor(f"output_norm.{part}", given[f"ln_f.{part}"])
  for i in range(config["n_layer"]):
    for part in ("weight", "bias"):
      for theirs, name in NORMS:
        out.add_tensor(
          f"blk.{i}.{name}.{part}", given[f"h.{i}.{theirs}.{part}"]
        )
      for theirs, name in LAYERS:
        x = given[f"h.{i}.{theirs}.{part}"]
        x = np.ascontiguousarray(x.T) if part == "weight" else x
        out.add_tensor(f"blk.{i}.{name}.{part}", x)
  out.write_header_to_file()
  out.write_kv_data_to_file()
  out.write_tensors_to_file()
  out.close()


class Model:
  """A context with room for so many sequences at once."""

  def __init__(self, path: pathlib.Path, sequences: int, longest: int):
    @llama_cpp.llama_log_callback
    def quiet(level: int, text: bytes, data: Any) -> None:
      del level, text, data

    self._quiet = quiet  # is called for as long as the library lives
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    self._model = llama_cpp.llama_model_load_from_file(
      str(path).encode(), settings
    )
    if not self._model:
      raise RuntimeError(f"llama.cpp cannot load {path.name}")
    self.vocab_size = llama_cpp.llama_vocab_n_tokens(
      llama_cpp.llama_model_get_vocab(self._model)
    )
    given = llama_cpp.llama_context_default_params()
    given.n_ctx = sequences * longest
    given.n_batch = given.n_ubatch = max(BATCH, sequences)
    given.n_seq_max = sequences
    given.n_threads = given.n_threads_batch = channel.THREADS
    given.type_k = given.type_v = llama_cpp.GGML_TYPE_F32
    self._context = llama_cpp.llama_init_from_model(self._model, given)
    if not self._context:
      raise RuntimeError("llama.cpp makes no context")
    self._batch = llama_cpp.llama_batch_init(given.n_batch, 0, 1)

  def clear(self) -> None:
    """Forgets all sequences."""
    memory = llama_cpp.llama_get_memory(self._context)
    llama_cpp.llama_memory_clear(memory, True)

  def decode(self, entries: list[tuple[int, int, int, bool]]) -> np.ndarray:
    """Logits [n, V] of those of (token, position, sequence, is read) read."""
    batch = self._batch
    batch.n_tokens = len(entries)
    for i, (token, position, sequence, is_read) in enumerate(entries):
      batch.token[i], batch.pos[i] = token, position
      batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
      batch.logits[i] = is_read
    code = llama_cpp.llama_decode(self._context, batch)
    if code:
      raise RuntimeError(f"llama_decode says {code}")
    read = sum(x[3] for x in entries)
    pointer = llama_cpp.llama_get_logits(self._context)
    return np.ctypeslib.as_array(pointer, (read, self.vocab_size))


def respond(
  model: Model, spec: dict, draw: np.random.Generator
) -> list[list[int]]:
  """Every prompt's response, at temperature 1."""
  model.clear()
  prompts = spec["prompts"]
  last = _read(model, prompts, draw)
  rows = [[token] for token in last]
  running = [i for i, row in enumerate(rows) if not _is_over(spec, row)]
  while running:
    entries = [
      (rows[i][-1], len(prompts[i]) + len(rows[i]) - 1, i, True)
      for i in running
    ]
    for i, token in zip(running, _chosen(model.decode(entries), draw)):
      rows[i].append(token)
    running = [i for i in running if not _is_over(spec, rows[i])]
  return rows


def _is_over(spec, row):
  return row[-1] == END or len(row) == spec["response"]


def _read(model, prompts, draw):
  """Reads the prompts, as many at a time as fit: the first tokens."""
  first, entries = [], []

  def flush():
    if entries:
      first.extend(_chosen(model.decode(entries), draw))
      entries.clear()

  for i, prompt in enumerate(prompts):
    if len(entries) + len(prompt) > BATCH:
      flush()
    last = len(prompt) - 1
    entries += [(token, n, i, n == last) for n, token in enumerate(prompt)]
  flush()
  return first


def _chosen(logits, draw):
  """A token for each row of logits, by inversion of the distribution."""
  weights = np.exp(logits - logits.max(axis=1, keepdims=True))
  total = np.cumsum(weights, axis=1)
  at = draw.random(len(total), np.float32)[:, None] * total[:, -1:]
  tokens = (total <= at).sum(axis=1)
  return np.minimum(tokens, logits.shape[1] - 1).tolist()


def as_told(spec: dict, responses: list[list[int]]) -> bool:
  """Whether the tokens are those that the weights give (suite/weights.py)."""
  last = spec["model"]["vocab_size"] - 1
  for prompt, response in zip(spec["prompts"], responses):
    token = prompt[-1]
    for one in response:
      token = token - 1 if token > END else last
      if one != token:
        return False
  return True


def generate(spec: dict, link: channel.Channel) -> None:
  """Every prompt's response."""
  folder = pathlib.Path(spec["folder"]) / "policy"
  with tempfile.TemporaryDirectory() as home:
    path = pathlib.Path(home) / "policy.gguf"
    write_gguf(folder, path)
    count = len(spec["prompts"])
    model = Model(path, count, spec["prompt"] + spec["response"])
  probe = [(x, n, 0, n == 7) for n, x in enumerate(PROBE)]
  logits = model.decode(probe)[0, :PROBED].astype(float).tolist()
  file = folder / "model.safetensors"
  version = importlib.metadata.version("llama-cpp-python")
  link.ready(
    probe=logits,
    weights=hashlib.sha256(file.read_bytes()).hexdigest()[:16],
    versions={"llama-cpp-python": version},
  )
  draw = np.random.default_rng(0)
  while True:
    rows = respond(model, spec, draw)
    lengths = [len(row) for row in rows]
    link.done(
      lengths=lengths,
      units=sum(lengths),
      tokens_as_told=as_told(spec, rows),
    )


if __name__ == "__main__":
  channel.serve({"generate": generate})
