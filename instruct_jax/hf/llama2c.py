"""llama2.c's little models in Hugging Face format.

The file is version 0: a header of seven int32 (width, MLP width, layers, heads,
key/value heads, vocabulary, length), then float32 matrices. Its rotary pairs
are neighbours (2i, 2i + 1); ours and Hugging Face's are (i, i + half), so the
rows of query and key are put in that order, which changes no score.
"""

import os

import numpy as np
import safetensors.numpy
from etils import epath

from instruct_jax.base import errors, pointers, storage
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import families as hf_families
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import tensors
from instruct_jax.models import config as model_config
from instruct_jax.parallel import folders, hosts
from instruct_jax.tokenizers import files
from instruct_jax.tokenizers import sentencepiece_model as proto

PREFIX = "llama2c:"
_HEADER = (
  "width",
  "mlp_width",
  "layers",
  "heads",
  "kv_heads",
  "vocab_size",
  "context_length",
)
_UNKNOWN, _BOS, _EOS = 0, 1, 2


def to_hf(
  checkpoint: os.PathLike | str,
  tokenizer: os.PathLike | str,
  folder: os.PathLike | str,
  *,
  overwrite: bool = False,
) -> None:
  """Writes `folder` from a checkpoint (.bin) and its tokenizer (.bin).

  A story ends where the next would begin: the end of text is the token that
  begins one.

  Raises UserError for files that are not what they should be, and for a folder
  that may not be written.
  """
  reads = [epath.Path(checkpoint), epath.Path(tokenizer)]
  sizes, parameters = _read_checkpoint(reads[0])
  pieces = _read_pieces(reads[1], sizes["vocab_size"])
  model = _decoder(sizes)
  family, config = hf_config.to_json(model)
  named = _by_their_names(parameters, tensors.table(family, model, "policy"))
  ends = {"bos_token_id": _BOS, "eos_token_id": _BOS}
  about_tokens = {
    "tokenizer_class": files.SENTENCEPIECE_CLASS,
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "<s>",
    "unk_token": "<unk>",
    "model_max_length": model.context_length,
  }
  about = {
    "architectures": [hf_families.FAMILIES[family].causal],
    "torch_dtype": "float32",
  }
  with folders.making(folder, reads=reads, overwrite=overwrite) as home:
    if not hosts.is_writer():
      return
    content = safetensors.numpy.save(named, metadata={"format": "pt"})
    storage.write(home / hf_folder.SINGLE, content)
    storage.write(home / files.MODEL, _sentencepiece(pieces))
    storage.write_json(home / hf_folder.CONFIG, config | about | ends)
    storage.write_json(home / files.GENERATION, ends)
    storage.write_json(home / files.CONFIG, about_tokens)


def _decoder(sizes):
  """The decoder that a header describes."""
  return model_config.DecoderConfig(
    **sizes,
    head_size=sizes["width"] // sizes["heads"],
    tied=True,
    positions="rotary",
    norm="rmsnorm",
    norm_bias=False,
    norm_eps=1e-5,
    mlp="swiglu",
    attention_bias=False,
    output_bias=False,
    mlp_bias=False,
  )


def _by_their_names(parameters, table):
  """Name in a checkpoint -> tensor, [outputs, inputs] here and there."""
  return {leaf.tensor: parameters[ours] for ours, leaf in table.items()}


def _read_checkpoint(path):
  """(the header by name, tensors [outputs, inputs] by our paths)."""
  content = _bytes(path)
  if len(content) < 28:
    raise errors.UserError(f"{path}: too short for a llama2.c header.")
  sizes = dict(zip(_HEADER, np.frombuffer(content, "<i4", 7).tolist()))
  sane = all(0 < value < 2**20 for value in sizes.values())
  if not sane or sizes["width"] % sizes["heads"]:
    raise errors.UserError(
      f"{path}: not a version 0 checkpoint of llama2.c with a tied output: its"
      f" header says {sizes}."
    )
  layers, width, hidden = (sizes[n] for n in ("layers", "width", "mlp_width"))
  head_size = width // sizes["heads"]
  kv = head_size * sizes["kv_heads"]
  shapes = {  # in the order of the file
    "token_embedding/embedding": (sizes["vocab_size"], width),
    "attention_norm/scale": (layers, width),
    "query/kernel": (layers, width, width),
    "key/kernel": (layers, kv, width),
    "value/kernel": (layers, kv, width),
    "output/kernel": (layers, width, width),
    "mlp_norm/scale": (layers, width),
    "gate/kernel": (layers, hidden, width),
    "down/kernel": (layers, width, hidden),
    "up/kernel": (layers, hidden, width),
    "final_norm/scale": (width,),
    "rotary": (2, sizes["context_length"], head_size // 2),  # not needed
  }
  wanted = 28 + 4 * sum(int(np.prod(shape)) for shape in shapes.values())
  if len(content) != wanted:
    raise errors.UserError(
      f"{path}: has {len(content)} bytes where its header asks for {wanted}."
    )
  matrices, place = {}, 28
  for name, shape in shapes.items():
    count = int(np.prod(shape))
    matrix = np.frombuffer(content, "<f4", count, place).reshape(shape)
    matrices[name] = matrix
    place += 4 * count
  return sizes, dict(_by_path(matrices, sizes, head_size))


def _by_path(matrices, sizes, head_size):
  for name in ("token_embedding/embedding", "final_norm/scale"):
    yield f"decoder/{name}", matrices.pop(name)
  del matrices["rotary"]
  for i in range(sizes["layers"]):
    for name, stacked in matrices.items():
      x = stacked[i]
      if name in ("query/kernel", "key/kernel"):
        pairs = x.reshape(-1, head_size // 2, 2, sizes["width"])
        x = pairs.swapaxes(1, 2).reshape(x.shape)
      yield f"decoder/block_{i}/{name}", np.ascontiguousarray(x)


def _read_pieces(path, count):
  """[(text, score)] of a llama2.c tokenizer, spaces as they are."""
  content, place, pieces = _bytes(path), 4, []
  while place < len(content):
    if place + 8 > len(content):
      raise errors.UserError(f"{path}: broken off at byte {place}.")
    score = float(np.frombuffer(content, "<f4", 1, place)[0])
    size = int(np.frombuffer(content, "<i4", 1, place + 4)[0])
    text = content[place + 8 : place + 8 + size]
    if size < 0 or len(text) != size:
      raise errors.UserError(f"{path}: broken off at byte {place}.")
    try:
      pieces.append((text.decode("utf-8"), score))
    except UnicodeDecodeError:
      raise errors.UserError(
        f"{path}: the token at byte {place} is not UTF-8."
      ) from None
    place += 8 + size
  if len(pieces) != count:
    raise errors.UserError(
      f"{path}: has {len(pieces)} tokens where the checkpoint has {count}."
    )
  return pieces


def _sentencepiece(pieces):
  """The pieces as a SentencePiece BPE model, as llama2.c trains it."""
  model = proto.ModelProto()
  kinds = proto.ModelProto.SentencePiece
  special = {_UNKNOWN: ("<unk>", kinds.UNKNOWN)}
  special |= {_BOS: ("<s>", kinds.CONTROL), _EOS: ("</s>", kinds.CONTROL)}
  for i, (text, score) in enumerate(pieces):
    kind = kinds.NORMAL
    if i in special:
      text, kind = special[i]
    elif text.startswith("<0x") and text.endswith(">") and len(text) == 6:
      kind = kinds.BYTE
    piece = text.replace(" ", "\u2581")
    model.pieces.add(piece=piece, score=score, type=kind)
  spec = model.trainer_spec
  spec.model_type = proto.TrainerSpec.BPE
  spec.vocab_size, spec.byte_fallback = len(pieces), True
  spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 0, 1, 2, -1
  model.normalizer_spec.name = "identity"
  model.normalizer_spec.add_dummy_prefix = True
  model.normalizer_spec.remove_extra_whitespaces = False
  return model.SerializeToString()


def _bytes(path):
  try:
    content = path.read_bytes()
  except OSError as error:
    raise errors.UserError(f"{path}: cannot be read ({error}).") from None
  pointers.check(path, content)
  return content
