"""The public functions, one file for each group; `dci_jax/__init__.py` lists them.

They keep no file unless a folder is given (an audit, a synthesis and a learned defense work in a temporary one), install no signal
handler and set no flag.
"""
