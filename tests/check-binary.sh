#!/bin/sh
# Checks a built bootstrap and the operator's program: they must start on Amazon Linux 2 (glibc 2.26), and a panic in the first must
# unwind, or it would answer nobody and CloudFormation would wait for an hour. Zipped it must be small: that decides a cold start.
set -eu
binary=$1
program=$2

for built in "$binary" "$program"; do
    newest=$(objdump -T "$built" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
    if [ "$(printf '%s\n2.26\n' "$newest" | sort -V | tail -n 1)" != 2.26 ]; then
        echo "$built needs glibc $newest; Amazon Linux 2 has 2.26" >&2
        exit 1
    fi
    echo "newest glibc symbol of ${built##*/}: $newest (at most 2.26)"
done
"$program" --help | grep -q 'restore' || { echo "$program does not say what it can do" >&2; exit 1; }

# Lambda's own variables are missing here, which panics. Unwinding ends the process with 101, aborting with a signal.
code=0
env -i AWS_LAMBDA_RUNTIME_API=127.0.0.1:9 "$binary" >/dev/null 2>&1 || code=$?
if [ "$code" != 101 ]; then
    echo "$binary ended with $code instead of 101 on a panic: the release profile must say panic = \"unwind\"" >&2
    exit 1
fi
echo "a panic unwinds"

# As `sam deploy` zips it: deflate at its default level.
zipped=$(gzip -6 -c "$binary" | wc -c)
# 4.6 MiB. Each operation of the SDK takes some 30 KB of it.
limit=4823449
if [ "$zipped" -gt "$limit" ]; then
    echo "$binary zips to $zipped bytes, more than $limit (4.6 MiB): find out what came in (docs/measurements.md)" >&2
    exit 1
fi
echo "zips to $zipped bytes (at most $limit)"
