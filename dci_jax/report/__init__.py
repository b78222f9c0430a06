"""Turns the files of finished runs into HTML pages; imports no JAX."""
