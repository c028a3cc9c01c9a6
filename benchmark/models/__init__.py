"""Model families, one file each; a registered function makes a model for (classes, channels, resolution)."""
