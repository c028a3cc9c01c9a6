"""Streams: the ALMA protocol over any data set, and one file for each family of data sets."""
