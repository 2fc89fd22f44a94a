"""How any checkpoint is measured on sets of data: what `sets` are made with.

`contract` says what a set is, `found` where its files are, `models` asks a
policy and remembers what it said (`asked`), `table` reads rows of files,
`choices` scores choices by likelihood, and `running` measures models on sets
and writes what was found.
"""
