"""Commands of this folder begin as those of instruct_jax do."""

import instruct_jax  # noqa: F401
