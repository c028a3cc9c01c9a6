"""Protocols: how labelled images become a stream of experiences, one file each."""
