#!/bin/sh
# Print the API key of this checkout's development server, made once: so that a terminal keeps working after a restart.
set -eu

file=.cache/api-key
if [ ! -s "$file" ]; then
    mkdir -p .cache
    (umask 077 && od -An -N 18 -tx1 /dev/urandom | tr -d ' \n' >"$file")
fi
cat "$file"
