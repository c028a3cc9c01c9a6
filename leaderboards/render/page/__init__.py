"""One HTML page for all boards of a store, which needs no network."""
