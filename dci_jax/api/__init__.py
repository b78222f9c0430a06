"""The public functions, one file for each group; `dci_jax/__init__.py` lists them.

They write no files unless given a folder (audits, synthesis and learned defenses use a temporary one), install no signal
handlers and set no flags.
"""
