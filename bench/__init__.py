"""The benchmark: real processes, floors and rivals measured in the same run (see bench/README.md)."""
