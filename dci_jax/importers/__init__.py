"""Networks of other frameworks, read from a file as plain data and run in JAX."""
