"""Attacks: each turns features back into inputs. `registry` lists them."""
