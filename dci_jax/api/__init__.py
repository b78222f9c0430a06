"""The public functions, one file for each group; `dci_jax/__init__.py` lists them.

They write no file unless a folder is given, install no signal handler and set no flag.
"""
