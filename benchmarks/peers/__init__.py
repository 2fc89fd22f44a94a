"""The peers' side: scripts that run in environments of their own.

Nothing here imports from this repository but its neighbours, by their bare
names: a script's own folder is where Python looks first.
"""
