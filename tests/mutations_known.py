"""What `tests/mutations.py` mutates, and what is known of its mutants."""

# Module -> the tests nearest to it, the quickest to notice first.
TARGETS = {
  "instruct_jax/maths/rl.py": ("tests/rl_test.py",),
  "instruct_jax/maths/preferences.py": ("tests/preferences_test.py",),
  "instruct_jax/models/heads.py": ("tests/heads_test.py",),
}

# (module, before, after): bugs in the wiring that tests once did not notice.
NAMED: list[tuple[str, str, str]] = []

# (module, before, after) -> why nothing that matters changes.
EQUIVALENT: dict[tuple[str, str, str], str] = {}
