"""The scenes of protocol/vectors/traces, in Python."""
