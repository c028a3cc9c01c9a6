"""Loading: images as arrays, decoded once, and whole batches of them."""
