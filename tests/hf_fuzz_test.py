"""Damaged and malicious checkpoints: each ends in an error that names a file.

All are made of one good folder by a change of its bytes. A flipped bit in a
tensor that leaves finite numbers cannot be noticed, and is left out.
"""

import copy
import json
import os
import pickle
import random
import struct
import time

import jax
import numpy as np
import pytest
import safetensors.numpy

from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import load as hf_load
from instruct_jax.models import forward, heads
from instruct_jax.parallel import sharding

CONFIG = {
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "vocab_size": 11,
  "hidden_size": 8,
  "intermediate_size": 12,
  "num_hidden_layers": 1,
  "num_attention_heads": 2,
  "num_key_value_heads": 1,
  "head_dim": 4,
  "hidden_act": "silu",
  "max_position_embeddings": 32,
  "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0,
  "rope_scaling": None,
  "tie_word_embeddings": False,
  "attention_bias": False,
}
LAYER = "model.layers.0."
SHAPES = {
  "model.embed_tokens.weight": (11, 8),
  "model.norm.weight": (8,),
  "lm_head.weight": (11, 8),
  LAYER + "input_layernorm.weight": (8,),
  LAYER + "post_attention_layernorm.weight": (8,),
  LAYER + "self_attn.q_proj.weight": (8, 8),
  LAYER + "self_attn.k_proj.weight": (4, 8),
  LAYER + "self_attn.v_proj.weight": (4, 8),
  LAYER + "self_attn.o_proj.weight": (8, 8),
  LAYER + "mlp.gate_proj.weight": (12, 8),
  LAYER + "mlp.up_proj.weight": (12, 8),
  LAYER + "mlp.down_proj.weight": (8, 12),
}
RNG = np.random.default_rng(0)
TENSORS = {
  name: RNG.standard_normal(shape).astype(np.float32)
  for name, shape in SHAPES.items()
}
FIRST, SECOND = "model-00001-of-00002", "model-00002-of-00002"
NAMES = list(SHAPES)
HALVES = {FIRST: NAMES[:6], SECOND: NAMES[6:]}
INDEX = {
  "metadata": {"total_size": 1},
  "weight_map": {
    name: f"{half}.safetensors"
    for half, names in HALVES.items()
    for name in names
  },
}


def blob(tensors):
  return safetensors.numpy.save(tensors, metadata={"format": "pt"})


def with_header(change):
  """The single file with `change(header)` in place of its header."""
  content = blob(TENSORS)
  size = struct.unpack("<Q", content[:8])[0]
  header = json.loads(content[8 : 8 + size])
  changed = change(header)
  text = json.dumps(changed).encode()
  return struct.pack("<Q", len(text)) + text + content[8 + size :]


def single(content=None, config=None):
  """A folder with one file: {name: bytes}."""
  return {
    "config.json": json.dumps(CONFIG).encode() if config is None else config,
    "model.safetensors": blob(TENSORS) if content is None else content,
  }


def sharded(index=None):
  """A folder with two files and an index."""
  index = INDEX if index is None else index
  found = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors.index.json": index
    if isinstance(index, bytes)
    else json.dumps(index).encode(),
  }
  for half, names in HALVES.items():
    found[f"{half}.safetensors"] = blob({n: TENSORS[n] for n in names})
  return found


def write(folder, files):
  folder.mkdir()
  for name, content in files.items():
    (folder / name).write_bytes(content)


def read(folder):
  """What every user of a checkpoint does; the parameters."""
  there = hf_folder.Folder(folder)
  model = heads.LanguageModel(hf_load.decoder_config(there))
  # An absurd size must be noticed before anything of it is allocated.
  hf_load.check(there, "policy")
  shapes = jax.eval_shape(
    lambda key: forward.init_params(model, key), jax.random.key(0)
  )
  mesh = sharding.make_mesh(data=1, fsdp=1, tensor=1)
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.place(shapes, mesh, heads.RULES),
  )
  return hf_load.load(there, abstract, "policy")


def truncated_files():
  content = blob(TENSORS)
  for size in (0, 1, 7, 8, 9, 50, 300, 700, len(content) - 1, len(content) - 9):
    yield f"{size} bytes", single(content[:size])
  for extra in (1, 8, 4096):
    yield f"{extra} bytes more", single(content + b"\0" * extra)
  halves = sharded()
  for size in (0, 8, 100):
    cut = halves[f"{SECOND}.safetensors"][:size]
    yield f"second file, {size}", halves | {f"{SECOND}.safetensors": cut}
  missing = dict(halves)
  del missing[f"{SECOND}.safetensors"]
  yield "second file missing", missing


def header_lengths():
  content = blob(TENSORS)
  size = struct.unpack("<Q", content[:8])[0]
  for length in (0, 1, 2, size - 1, size + 1, size + 64, 2**31, 2**40, 2**63,
                 2**64 - 1, 100_000_001):  # fmt: skip
    yield str(length), single(struct.pack("<Q", length) + content[8:])


def flipped_headers():
  content = blob(TENSORS)
  size = struct.unpack("<Q", content[:8])[0]
  rng = random.Random(0)
  made = 0
  while made < 60:
    place = rng.randrange(8, 8 + size)
    flipped = bytearray(content)
    flipped[place] ^= 1 << rng.randrange(8)
    before, after = (_loose(x[8 : 8 + size]) for x in (content, bytes(flipped)))
    # A changed note, or white space, is no damage.
    if before != after:
      made += 1
      yield f"bit of byte {place}", single(bytes(flipped))


def _loose(text):
  try:
    header = json.loads(text)
    return {k: v for k, v in header.items() if k != "__metadata__"}
  except (ValueError, AttributeError):
    return text


ENTRY = {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}


def wrong_headers():
  name = "model.norm.weight"

  def entry(**values):
    return with_header(lambda h: h | {name: h[name] | values})

  for dtype in ("I64", "F8_E4M3", "BOOL", "U8", "F64", "I32", "NONE", "", 3,
                None, ["F32"]):  # fmt: skip
    yield f"dtype {dtype}", single(entry(dtype=dtype))
  for shape in ([], [0], [7], [9], [4, 2], [-8], [2**62], [2**63, 2], ["8"],
                None, 8, [8.5], {}):  # fmt: skip
    yield f"shape {shape}", single(entry(shape=shape))
  for offsets in ([0, 0], [0, 8], [32, 0], [-4, 28], [0, 2**63], [1], None,
                  [10**12, 10**12 + 32], "ab", [0.5, 32]):  # fmt: skip
    yield f"offsets {offsets}", single(entry(data_offsets=offsets))
  for key in ("dtype", "shape", "data_offsets"):
    yield (
      f"no {key}",
      single(with_header(lambda h, k=key: h[name].pop(k) and h)),
    )
  for value in ([], 3, None, "x", {name: 3}, {name: []}, {}):
    yield f"header {value}", single(with_header(lambda h, v=value: v))


def wrong_tensors():
  for name in NAMES:
    rest = {k: v for k, v in TENSORS.items() if k != name}
    yield f"{name} missing", single(blob(rest))
    turned = {name: TENSORS[name].T.copy().reshape(-1, 1)}
    yield f"{name} of another shape", single(blob(TENSORS | turned))
    bad = TENSORS[name].copy()
    bad.flat[-1] = np.nan
    yield f"{name} nan", single(blob(TENSORS | {name: bad}))
    bad = TENSORS[name].copy()
    bad.flat[0] = -np.inf
    yield f"{name} inf", single(blob(TENSORS | {name: bad}))
    whole = TENSORS[name].astype(np.int32)
    yield f"{name} of integers", single(blob(TENSORS | {name: whole}))
    empty = np.zeros((0, *TENSORS[name].shape[1:]), np.float32)
    yield f"{name} empty", single(blob(TENSORS | {name: empty}))
  for name in ("extra.weight", "score.weight", LAYER + "self_attn.q_proj.bias",
               "model.layers.1.input_layernorm.weight"):  # fmt: skip
    more = {name: np.ones((1, 8), np.float32)}
    yield f"{name} too much", single(blob(TENSORS | more))


def wrong_indices():
  for target in ("../secret.safetensors", "/etc/passwd", "..\\x.safetensors",
                 "/tmp/x.safetensors", "a/b.safetensors", "", ".", "..",
                 "config.json", "missing.safetensors", "model.bin", 3, None,
                 [], {}, True, f"./{FIRST}.safetensors", "x\0.safetensors",
                 "~/x.safetensors", "x" * 5000 + ".safetensors",
                 f"{SECOND}.safetensors"):  # fmt: skip
    index = copy.deepcopy(INDEX)
    index["weight_map"][NAMES[0]] = target
    yield f"target {str(target)[:30]!r}", sharded(index)
  index = copy.deepcopy(INDEX)
  index["weight_map"]["ghost.weight"] = f"{FIRST}.safetensors"
  yield "a tensor that is not there", sharded(index)
  index = copy.deepcopy(INDEX)
  del index["weight_map"][NAMES[3]]
  yield "a tensor that is not listed", sharded(index)
  for value in ([], 3, "x", None, {}, {"weight_map": []}, {"weight_map": {}},
                {"weight_map": 3}, {"metadata": {}}):  # fmt: skip
    yield f"index {value}", sharded(json.dumps(value).encode())
  text = json.dumps(INDEX).encode()
  for size in range(0, len(text) - 1, 97):
    yield f"index cut at {size}", sharded(text[:size])
  doubled = text.replace(
    b'"weight_map": {', b'"weight_map": {"a": "b", "a": 3,'
  )
  yield "a key twice", sharded(doubled)
  both = sharded()
  both[f"{SECOND}.safetensors"] = blob(
    {n: TENSORS[n] for n in [NAMES[0], *HALVES[SECOND]]}
  )
  yield "a tensor in both files", both


def wrong_configs():
  text = json.dumps(CONFIG).encode()
  for size in range(0, len(text) - 1, 13):
    yield f"cut at {size}", single(config=text[:size])
  for name in ("vocab_size", "intermediate_size", "model_type"):
    rest = {k: v for k, v in CONFIG.items() if k != name}
    yield f"no {name}", single(config=json.dumps(rest).encode())
  wrong = {
    "model_type": ("bert", "Llama", "", 3, None, ["llama"], {}),
    "vocab_size": (0, -1, 10, 12, 1e3, "11", None, True, 10**30, 2**31, []),
    "hidden_size": (0, -8, 7, 16, 8.5, "8", 10**12, {}, False),
    "num_hidden_layers": (0, -1, 2, 1000, 10**12, "1", 1.5, [1]),
    "num_attention_heads": (0, -2, 3, 4, 10**12, "2", 2.5),
    "num_key_value_heads": (0, -1, 2, 3, 10**12, "1"),
    "head_dim": (0, -4, 3, 8, 10**12, "4", 2.5),
    "intermediate_size": (0, -12, 13, 10**12, "12"),
    "max_position_embeddings": (0, -32, "32", 2.5, []),
    "rms_norm_eps": (0, -1e-5, "small", [], True, 1e400),
    "rope_theta": (-1.0, 0, "1e4", []),
    "hidden_act": ("relu", "gelu", 3, ["silu"]),
    "tie_word_embeddings": (1, "yes", [], True),
    "attention_bias": (True, 1, "no"),
    "rope_scaling": (
      3,
      [],
      "linear",
      {"rope_type": "yarn", "factor": 2.0},
      {"type": "dynamic", "factor": 2.0},
      {"rope_type": "linear"},
      {"rope_type": "linear", "factor": "2"},
      {"rope_type": "linear", "factor": 2.0, "odd": 1},
      {"rope_type": "llama3", "factor": 8.0},
      {"rope_type": "linear", "factor": 0.0},
    ),
    "quantization_config": ({"bits": 4},),
    "auto_map": ({"AutoModel": "x.y"},),
    "sliding_window": (16,),
    "new_option": (True, 3, "x"),
    "is_encoder_decoder": (True,),
    "pruned_heads": ({"0": [1]},),
    "add_cross_attention": (True,),
  }
  for key, values in wrong.items():
    for value in values:
      if value is not None or key in ("model_type", "vocab_size"):
        changed = json.dumps(CONFIG | {key: value}).encode()
        yield f"{key} = {str(value)[:40]}", single(config=changed)
  for raw in (b"", b"[]", b"3", b"null", b'"x"', b"{", b"\xff\xfe{}",
              b"\0" * 64,
              b"{'a': 1}", b"[" * 100_000, b'{"a":' * 50_000,
              text[:-1] + b', "vocab_size": 11}', text + b"}",
              text.replace(b'"llama"', b'"\xc3\x28"')):  # fmt: skip
    yield f"raw {raw[:20]!r}", single(config=raw)


def cases():
  for group in (
    truncated_files,
    header_lengths,
    flipped_headers,
    wrong_headers,
    wrong_tensors,
    wrong_indices,
    wrong_configs,
  ):
    for name, files in group():
      yield pytest.param(files, id=f"{group.__name__}: {name}")


def test_the_good_folders_load(tmp_path):
  for name, files in (("single", single()), ("sharded", sharded())):
    write(tmp_path / name, files)
    params = read(tmp_path / name)
    kernel = params["decoder"]["block_0"]["key"]["kernel"]
    expected = TENSORS[LAYER + "self_attn.k_proj.weight"].T
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize("files", cases())
def test_a_bad_folder_is_an_error_that_names_it(files, tmp_path):
  folder = tmp_path / "bad"
  write(folder, files)
  start = time.monotonic()
  with pytest.raises(errors.UserError, match="bad"):
    read(folder)
  assert time.monotonic() - start < 5


def test_a_pickle_is_never_opened(tmp_path):
  class Bomb:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / "boom"),)

  folder = tmp_path / "bad"
  write(folder, {"config.json": json.dumps(CONFIG).encode()})
  (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
  with pytest.raises(errors.UserError, match="a pickle, which is never opened"):
    read(folder)
  assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("how", ["nothing", "a file", "an empty folder"])
def test_what_is_no_checkpoint_is_named(how, tmp_path):
  path = tmp_path / "bad"
  if how == "a file":
    path.write_text("x")
  if how == "an empty folder":
    path.mkdir()
  with pytest.raises(errors.UserError, match="bad"):
    read(path)


def test_a_file_without_end_is_not_read(tmp_path):
  write(tmp_path / "bad", single())
  with (tmp_path / "bad" / "config.json").open("wb") as file:
    file.truncate(2**32)
  with pytest.raises(errors.UserError, match="too large"):
    read(tmp_path / "bad")


def test_there_are_hundreds_of_them():
  assert len(list(cases())) >= 350
