"""What is read back and how it is scored: images, or a generator's codes."""
