"""What an attacker learns from: synthesised and procedural images, and codes of a generator's prior."""
