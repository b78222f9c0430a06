"""What a device may do to its features before it sends them."""
