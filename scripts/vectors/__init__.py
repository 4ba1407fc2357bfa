"""The cases of protocol/vectors, in Python."""
