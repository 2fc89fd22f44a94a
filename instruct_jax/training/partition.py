"""What of a role's parameters is trained, and what stays as it was given.

`config.lora` puts adapters into the roles that it names: then these, and a
scalar head, are trained and the rest is the base model's. `config.freeze` is a
regular expression; parameters whose 'role/path' it is found in are not trained.
What is not trained is never copied, averaged, nor stored in a checkpoint, and
has no optimizer state.
"""

import functools
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from instruct_jax.base import errors
from instruct_jax.inference import context
from instruct_jax.models import forward, heads, lora
from instruct_jax.parallel import sharding

Names = frozenset[str] | None  # paths in a role's tree; None: all of them
Trees = dict[str, Any]  # by role
_HEAD = "head/"  # of a scalar model: trained whole, as it starts afresh


def split(tree: dict, names: Names) -> tuple[dict, dict]:
  """(what `names` names, the rest) of a tree; no branch of them is empty."""
  if names is None:
    return tree, {}
  return _kept(tree, names.__contains__), _kept(
    tree, lambda path: path not in names
  )


def joined(one: dict, other: dict) -> dict:
  """Two trees in one; where both have an array, `other`'s."""
  if not other:
    return one
  both = dict(one)
  for name, below in other.items():
    is_branch = isinstance(below, dict) and name in both
    both[name] = joined(both[name], below) if is_branch else below
  return both


def trained_of(trees: Trees, trained: Mapping[str, Names]) -> Trees:
  """The parts of the roles' trees that are trained."""
  return {role: split(x, trained.get(role))[0] for role, x in trees.items()}


def rest_of(trees: Trees, trained: Mapping[str, Names]) -> Trees:
  """The parts of the roles' trees that are not, of roles that have some."""
  parts = {role: split(x, trained.get(role))[1] for role, x in trees.items()}
  return {role: part for role, part in parts.items() if part}


def whole_of(trained: Trees, rest: Trees) -> Trees:
  """The roles' trees of their two parts."""
  return {
    role: joined(rest[role], x) if role in rest else x
    for role, x in trained.items()
  }


def with_adapters(config: ConfigDict, params: Trees, key: jax.Array) -> Trees:
  """The roles' trees, with fresh adapters where `config.lora` wants them."""
  settings = lora.settings(config.lora)
  if settings is None:
    return params
  adapted = dict(params)
  for role in filter(functools.partial(is_adapted, config), params):
    of_role = jax.random.fold_in(key, zlib.crc32(role.encode()))
    adapted[role] = lora.attach(params[role], settings, of_role)
  return adapted


def of(config: ConfigDict, params: Trees) -> dict[str, Names]:
  """What is trained of each role, of trees that have their adapters.

  Raises UserError where `config.freeze` fits nothing, an adapter, or all that
  a role could learn.
  """
  pattern = _pattern(config.freeze)
  found, trained = False, {}
  for role, tree in params.items():
    names = _names(tree)
    learned = names
    if is_adapted(config, role):
      learned = [n for n in names if lora.is_adapter(n) or n.startswith(_HEAD)]
    if pattern:
      hit = {name for name in names if pattern.search(f"{role}/{name}")}
      found = found or bool(hit)
      _check_hit(config, role, learned, hit)
      learned = [name for name in learned if name not in hit]
    trained[role] = None if learned == names else frozenset(learned)
  if pattern and not found:
    role, tree = next(iter(params.items()))
    raise errors.UserError(
      f"config.freeze={config.freeze!r} fits no parameter; they are called"
      f" {role}/{_names(tree)[0]} and the like"
    )
  return trained


def bases(
  sources: Mapping[str, str], trained: Mapping[str, Names]
) -> dict[str, str]:
  """The checkpoint that holds the rest of each role that is trained in part.

  `sources` say where the arrays of a state come from ('params/role/path' ->
  'checkpoint/path', or ''). Raises UserError for what is not trained and comes
  from nowhere: no one who reads the run could have it.
  """
  found = {}
  for path, source in sources.items():
    field, _, rest = path.partition("/")
    role, _, name = rest.partition("/")
    names = trained.get(role)
    if field != "params" or names is None or name in names:
      continue
    base, _, there = source.partition("/")
    if there != name or found.setdefault(role, base) != base:
      raise errors.UserError(
        f"{rest} starts afresh in this run, so it must be trained: leave it"
        " out of config.freeze, and give adapters (config.lora) to models that"
        " start from one"
      )
  return found


def check(config: ConfigDict) -> None:
  """UserError for adapters or a freeze that cannot be; reads no file."""
  settings = lora.settings(config.lora)
  for role in config.lora.roles:
    if role not in config.optimizer:
      raise errors.unknown("config.lora.roles:", role, config.optimizer)
  _pattern(config.freeze)
  if settings is None and not config.freeze:
    return
  key = "config.lora.rank" if settings else "config.freeze"
  value = settings.rank if settings else repr(config.freeze)
  if not {"policy", "reward"} & set(config.needs):
    raise errors.UserError(
      f"{key}={value}: this run starts from no model, so there is nothing to"
      " keep as it is; name one in config.needs.policy"
    )
  policy, scalar = context.decoders(config)
  shapes = {}
  for role in config.optimizer:
    is_scalar = role in context.SCALAR_ROLES
    model = (
      heads.ScalarModel(scalar) if is_scalar else heads.LanguageModel(policy)
    )
    init = functools.partial(forward.init_params, model)
    shapes[role] = jax.eval_shape(init, jax.random.key(0))
  attach = functools.partial(with_adapters, config)
  of(config, jax.eval_shape(attach, shapes, jax.random.key(0)))


def is_adapted(config: ConfigDict, role: str) -> bool:
  """Whether a role that is trained has adapters."""
  roles = config.lora.roles or tuple(config.optimizer)
  return bool(config.lora.rank) and role in roles


def is_partial(config: ConfigDict, role: str) -> bool:
  """Whether some parameters of a role may stay as they were given."""
  return is_adapted(config, role) or bool(config.freeze)


def _check_hit(config, role, learned, hit):
  """UserError where a freeze leaves a role nothing to learn, or an adapter."""
  text = f"config.freeze={config.freeze!r}"
  if hit.issuperset(learned):
    raise errors.UserError(
      f"{text} fits all that {role} could learn: leave something out of it"
    )
  adapters = sorted(name for name in hit if lora.is_adapter(name))
  if adapters:
    raise errors.UserError(
      f"{text} fits {role}/{adapters[0]}, an adapter: leave its layer out of"
      " config.lora.targets instead"
    )


def _pattern(text: str) -> re.Pattern | None:
  try:
    return re.compile(text) if text else None
  except re.error as error:
    raise errors.UserError(
      f"config.freeze={text!r}: no regular expression: {error}"
    ) from None


def _names(tree: dict) -> list[str]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [sharding.path_name(path) for path, _ in leaves]


def _kept(tree: dict, wanted: Callable[[str], bool], path: str = "") -> dict:
  kept = {}
  for name, below in tree.items():
    here = f"{path}{name}"
    if isinstance(below, dict):
      below = _kept(below, wanted, f"{here}/")
      if below:
        kept[name] = below
    elif wanted(here):
      kept[name] = below
  return kept
