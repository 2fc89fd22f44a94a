"""Attention on a GPU: what cuDNN is asked, and what it is not asked.

Nothing here needs a GPU but the last test, which needs any accelerator.
"""

import functools
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as library

from instruct_jax.models import attention, cudnn
from instruct_jax.parallel import sharding
from tests import flash_test

whole = (None, None)


@pytest.fixture
def has_cudnn(monkeypatch):
  monkeypatch.setattr(library, "check_cudnn_version", lambda: 91000)
  monkeypatch.setattr(library, "check_compute_capability", lambda _: True)
  name = "is_cuda_compute_capability_equal"
  monkeypatch.setattr(library, name, lambda _: False)


@pytest.mark.parametrize("name", flash_test.CASES)
def test_a_gpu_computes_the_same(name, monkeypatch, has_cudnn):
  """By what `jax.nn` computes elsewhere of what cuDNN is given."""
  make, (B, G, M), settings = flash_test.CASES[name]
  structure, settings = make(), settings | {"cap": 0.0}
  T, S = structure.positions.shape[1], structure.is_key.shape[1]
  given = flash_test.heads(B, G, M, T, S)
  f = functools.partial(flash_test.attended, structure, settings, whole)
  expected = flash_test.on("cpu", monkeypatch, f, *given)
  calls, attend = [], jax.nn.dot_product_attention

  def elsewhere(*args, implementation, **given):
    calls.append(implementation)
    return attend(*args, **given, implementation="xla")

  monkeypatch.setattr(jax.nn, "dot_product_attention", elsewhere)
  monkeypatch.setattr(cudnn, "DTYPES", ("float32",))
  actual = flash_test.on("gpu", monkeypatch, f, *given)
  assert "cudnn" in calls
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5, rtol=1e-5),
    actual,
    expected,
  )


def lowered(f, given, monkeypatch):
  monkeypatch.setattr(sharding, "platform", lambda: "gpu")
  program = jax.jit(lambda *x: f(*x)).trace(*given)
  return program.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("tensor", [1, 2])
def test_a_gradient_is_lowered_to_cudnn(tensor, monkeypatch, has_cudnn):
  """Forward and backward; and no array of every head's queries by keys."""
  B, G, M, T = 4, 2, 2, 300
  structure = attention.padded(jnp.ones((B, T), bool))
  f = functools.partial(flash_test.attended, structure, {}, whole)
  given = flash_test.heads(B, G, M, T, E=16, dtype="bfloat16")
  with jax.set_mesh(sharding.make_mesh(2, 1, tensor)):
    text = lowered(f, given, monkeypatch)
  assert set(re.findall(r"__cudnn\$\w+", text)) == {
    "__cudnn$fmhaScaleBiasSoftmax",
    "__cudnn$fmhaScaleBiasSoftmaxBackward",
  }
  shapes = set(flash_test.compiled_shapes(text))
  assert not [s for s in shapes if np.prod(s) >= B * G * M * T * T]
  assert (B // 2, 1, 320, 320) in shapes  # the mask, each device its rows'


@pytest.mark.parametrize(
  ("dtype", "settings", "size", "reason"),
  [
    ("float32", {}, 16, "its numbers are float32"),
    ("bfloat16", {"cap": 2.0}, 16, "a soft cap of 2"),
    ("bfloat16", {}, 20, "multiple of 8, but got 20"),
  ],
)
def test_what_cudnn_refuses_is_said_once(
  dtype, settings, size, reason, monkeypatch, has_cudnn, caplog
):
  monkeypatch.setattr(cudnn._log.parent, "propagate", True)
  cudnn._say.cache_clear()
  structure = attention.padded(jnp.ones((1, 12), bool))
  f = functools.partial(flash_test.attended, structure, settings, whole)
  given = flash_test.heads(1, 1, 1, 12, E=size, dtype=dtype)
  with caplog.at_level(logging.WARNING):
    text = lowered(f, given, monkeypatch)
    lowered(f, given, monkeypatch)
  assert "cudnn" not in text
  (message,) = [x.getMessage() for x in caplog.records if "cuDNN" in x.msg]
  assert message.startswith("Attention holds its scores")
  assert reason in message


def test_without_cudnn_scores_are_held(monkeypatch, caplog):
  monkeypatch.setattr(cudnn._log.parent, "propagate", True)
  cudnn._say.cache_clear()
  structure = attention.padded(jnp.ones((1, 12), bool))
  f = functools.partial(flash_test.attended, structure, {}, whole)
  given = flash_test.heads(1, 1, 1, 12, E=16, dtype="bfloat16")
  assert "cudnn" not in lowered(f, given, monkeypatch)
  assert "cuDNN is not detected" in caplog.text


def has_accelerator():
  is_tpu = any(pathlib.Path("/dev").glob("accel*"))
  return is_tpu or shutil.which("nvidia-smi") is not None


@pytest.mark.skipif(not has_accelerator(), reason="no accelerator")
def test_an_accelerator_computes_the_same():
  """In a process of its own: this one has fake devices."""
  hidden = ("JAX_PLATFORMS", "XLA_FLAGS")
  env = {k: v for k, v in os.environ.items() if k not in hidden}
  words = [sys.executable, "-m", "tests.accelerator"]
  done = subprocess.run(words, env=env, capture_output=True, text=True)
  assert not done.returncode, done.stderr[-3000:]
