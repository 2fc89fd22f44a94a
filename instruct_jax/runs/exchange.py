"""Checkpoints in Hugging Face format <-> runs.

A run that was brought in keeps what the network alone does not tell, in `hf/`:
config.json, generation_config.json and the dtype of every tensor, so that
sending it out again gives the tensors back bit for bit.
"""

import os
from typing import Any

from etils import epath

from instruct_jax.base import claims, errors, run_folder, storage
from instruct_jax.hf import adapters as hf_adapters
from instruct_jax.hf import export as hf_export
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import imported, places
from instruct_jax.hf import load as hf_load
from instruct_jax.inference import context
from instruct_jax.parallel import checkpoint, digest, folders, hosts
from instruct_jax.runs import bases, reading, records

ROLES = ("policy", "reward", "value")
_TENSORS = "tensors.json"
_TYPED = "Zoë's \u201cwell-known\u201d job; is it here?"


def bring_in(
  reference: str,
  folder: os.PathLike | str,
  *,
  role: str = "",
  overwrite: bool = False,
) -> None:
  """Makes a finished run of the checkpoint 'hf:/path'.

  Args:
    reference: 'hf:/path'.
    folder: of the run; new, empty, or as an earlier call has left it.
    role: what the checkpoint must be, 'policy' or 'reward'; '': either.
    overwrite: a folder of others is moved aside.

  Raises:
    UserError: for whatever is wrong in the checkpoint; a folder that may not
      be written.
  """
  reads = [hf_folder.path_of(reference)]
  _claim(folder, reads, overwrite)
  there = hf_folder.Folder(reads[0])
  role = _role(role or records.product(epath.Path(reference)).role)
  ctx = reading.open_context(epath.Path(reference))
  params = reading.load_parameters(epath.Path(reference), ctx, role)
  with folders.making(folder, reads=reads, overwrite=overwrite) as home:
    _fill(home, there, ctx, role, params)


def _claim(folder, reads, overwrite):
  """As `claims.claim`, once: what the first process writes is not looked at."""

  def claim():
    claims.claim(folder, reads=reads, overwrite=overwrite, folder=True)

  hosts.once("claim", claim)


def _fill(
  home: epath.Path,
  there: hf_folder.Folder,
  ctx: context.Context,
  role: str,
  params: digest.Tree,
) -> None:
  """Writes a run of a checkpoint's parameters."""
  item, files = f"params.{role}", run_folder.files(home)
  with checkpoint.Checkpointer(files.checkpoints) as saver:
    saver.save(0, {item: params})
  of_parameters = digest.of({item: params})
  if not hosts.is_writer():
    return
  ctx.tokenizer.save(files.tokenizer)
  kept = {hf_folder.CONFIG: there.config, _TENSORS: _kinds(there)}
  if (there.path / hf_export.GENERATION).exists():
    kept[hf_export.GENERATION] = hf_folder.read_json(
      there.path / hf_export.GENERATION
    )
  files.origin.mkdir()
  for name, value in kept.items():
    storage.write_json(files.origin / name, value)
  described = {
    "config": ctx.config.to_dict(),
    "needs": {"data": "."},
    "digest": hf_load.digest(there.path),
  }
  storage.write_json(files.config, described)
  results = {
    "experiment": "import",
    "config_digest": described["digest"],
    "parameters_digest": of_parameters,
    "product": {"run": ".", "step": 0, "item": item},
  }
  storage.write_json(files.results, results)


def send_out(
  run: os.PathLike | str,
  folder: os.PathLike | str,
  *,
  role: str = "",
  ema: bool = True,
  dtype: str = "",
  drop_bias: bool = False,
  shard_bytes: int = hf_export.SHARD_BYTES,
  overwrite: bool = False,
) -> list[str]:
  """Writes what a finished run made in Hugging Face format.

  Returns what of the run could not be kept, a line each.

  Args:
    run: the run's folder.
    folder: new, empty, or an export that nobody has changed since.
    role: 'policy', 'reward' or 'value'; '': what the run hands on.
    ema: the average of a role that has one.
    dtype: of the tensors; '': as they were brought in, else float32.
    drop_bias: see `hf.export.export`.
    shard_bytes: how large a file may become.
    overwrite: a folder of others is moved aside.

  Raises:
    UserError: not a finished run, no such role, or see `hf.export.export`.
  """
  reads = _read_by(epath.Path(run))
  _claim(folder, reads, overwrite)
  role = _role(role or records.product(run).role)
  ctx = reading.open_context(run)
  params = reading.load_kept(run, ctx, role, ema=ema)
  model = ctx.model(role).config
  origin = _origin(epath.Path(run), model)
  kept = run_folder.files(run).origin
  lost = hf_export.export(
    params,
    model,
    role,
    ctx.tokenizer,
    folder,
    dtype=dtype or _usual_dtype(kept),
    dtypes=_read(kept / _TENSORS) if not dtype else None,
    original=hf_folder.read_config(origin) if origin else None,
    generation=_read(origin / hf_export.GENERATION) if origin else None,
    drop_bias=drop_bias,
    shard_bytes=shard_bytes,
    reads=reads,
    overwrite=overwrite,
  )
  return [line for line in (lost, _not_written(ctx)) if line]


def send_adapters(
  run: os.PathLike | str,
  folder: os.PathLike | str,
  *,
  base: str = "",
  role: str = "",
  ema: bool = True,
  dtype: str = "",
  drop_bias: bool = False,
  overwrite: bool = False,
) -> list[str]:
  """Writes the adapters that a finished run trained, as `peft` reads them.

  Returns what of the run could not be kept, a line each.

  Args:
    run: the run's folder.
    folder: new, empty, or an export that nobody has changed since.
    base: 'hf:/path' of what they were trained on; '': as the run names it.
    role: 'policy', 'reward' or 'value'; '': what the run hands on.
    ema: the average of a role that has one.
    dtype: of the tensors; '': float32.
    drop_bias: see `hf.adapters.export`.
    overwrite: a folder of others is moved aside.

  Raises:
    UserError: a run without adapters, or see `hf.adapters.export`; a base that
      is no checkpoint in Hugging Face format, or another model.
  """
  reads = _read_by(epath.Path(run))
  _claim(folder, reads, overwrite)
  role = _role(role or records.product(run).role)
  ctx = reading.open_context(run)
  trained, below = reading.load_adapters(run, ctx, role, ema=ema)
  if not hf_folder.is_reference(base or below.folder):
    raise errors.UserError(
      f"{run}: its adapters were trained on {below.folder}, which is no"
      " checkpoint in Hugging Face format. Convert that first (python -m"
      f" instruct_jax.convert {below.folder} hf:/BASE) and name it with"
      " --base=hf:/BASE"
    )
  there = _check_base(base, below, ctx, role) if base else {}
  assert below.lora is not None  # `load_adapters` says so
  lost = hf_adapters.export(
    trained,
    below.lora,
    ctx.model(role).config,
    role,
    ctx.tokenizer,
    folder,
    base=hf_folder.path_of(base or below.folder),
    below=there.get("head"),
    dtype=dtype or "float32",
    drop_bias=drop_bias,
    reads=reads,
    overwrite=overwrite,
  )
  return [*lost, *filter(None, [_not_written(ctx)])]


def _check_base(base, below, ctx, role):
  """What adapters were trained on; UserError where 'hf:/path' is not that."""
  params = reading.load_base(below, ctx, role)
  there = hf_folder.Folder(hf_folder.path_of(base))
  model = ctx.model(role).config
  other = hf_export.difference(params, model, below.role, there)
  if other:
    raise errors.UserError(
      f"--base={base}: its '{other}' is not that of {below.folder}, which the"
      " adapters were trained on (export that in float32, and change nothing)"
    )
  return params


def _read_by(run: epath.Path) -> list[epath.Path]:
  """The folders that a run's parameters and tokenizer are read from."""
  found = [run, *bases.holders(run), *records.read_needs(run).values()]
  return [
    hf_folder.path_of(x) if hf_folder.is_reference(x) else x for x in found
  ]


def _not_written(ctx: context.Context) -> str:
  """What a world does to typed text that its tokenizer does not do."""
  typed = ctx.world.normalize(_TYPED, ctx.tokenizer)
  if typed == ctx.tokenizer.normalize(_TYPED):
    return ""
  return (
    f"data.source='{ctx.config.data.source}' writes typed text in a form of its"
    " own, which `sample` gives it and the exported tokenizer does not: type"
    f" {typed!r} there for {_TYPED!r}"
  )


def _role(name: str) -> str:
  if name not in ROLES:
    raise errors.unknown("role", name, ROLES)
  return name


def _kinds(there: hf_folder.Folder) -> dict[str, str]:
  names = {dtype: name for name, dtype in hf_folder.DTYPES.items()}
  return {name: names[there.dtype(name)] for name in places.weights(there)}


def _usual_dtype(kept: epath.Path) -> str:
  config = _read(kept / hf_folder.CONFIG) or {}
  name = config.get("dtype", config.get("torch_dtype"))
  return name if name in hf_export.NAMES else "float32"


def _origin(run: epath.Path, model: Any) -> epath.Path | None:
  """Where the files are of the checkpoint that a run descends from.

  None where there is none, or where its decoder is not the run's any more.
  """
  queue, seen = [run], set()
  while queue:
    here = queue.pop(0)
    if str(here) in seen:
      continue
    seen.add(str(here))
    if hf_folder.is_reference(here):
      files = hf_folder.path_of(here)
    elif (run_folder.files(here).origin / hf_folder.CONFIG).exists():
      files = run_folder.files(here).origin
    else:
      is_run = run_folder.files(here).config.exists()
      queue += records.read_needs(here).values() if is_run else ()
      continue
    if imported.describes(files / hf_folder.CONFIG, model):
      return files
  return None


def _read(path: epath.Path) -> dict[str, Any] | None:
  return hf_folder.read_json(path) if path.exists() else None
