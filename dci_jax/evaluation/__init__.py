"""What is reconstructed and how it is scored: images, a generator's latents, or recorded features."""
