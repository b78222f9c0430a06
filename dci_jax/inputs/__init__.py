"""What an attacker learns from: synthesised and procedural images, and latents of a generator's prior."""
