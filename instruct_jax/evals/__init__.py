"""What the paper measures, one file an evaluation; `suite` runs them all.

An evaluation has `run(bench)`, which returns metrics {"group/name": value} and
tables {name: rows}; `reward` and `select` are run by stages of their own.
"""
