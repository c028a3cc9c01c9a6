"""Sources: one file for each family of data sets."""
