"""Weights: files -> tensors by name -> parameters. Nothing in a file is executed."""
