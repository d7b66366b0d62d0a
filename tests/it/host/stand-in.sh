#!/bin/bash
# Stands in for every program that the forensic host's scripts call and that reaches the network, systemd or the package manager.
# What is called is written to `calls`; a call that matches a line of `fail` fails, until `patience` pauses have passed.
line="$(basename "$0") $*"
echo "$line" >> @ROOT@/calls
if [ "$(grep -c '^sleep ' @ROOT@/calls)" -ge "$(cat @ROOT@/patience)" ]; then : > @ROOT@/fail; fi
while read -r pattern; do
  # shellcheck disable=SC2053
  if [[ $line == $pattern ]]; then exit 7; fi
done < @ROOT@/fail
here=$(dirname "$0")
case "$line" in
  curl*)
    while [ $# -gt 2 ]; do [ "$1" != --output ] || output=$2; shift; done
    [ "$1" != "$output" ] || output=$1
    cp "@ROOT@/downloads/$(basename "$2")" "$output"
    ;;
  "python3 -m venv "*)
    for to; do :; done
    mkdir -p "$to/bin" && ln -sf "$(readlink -f "$0")" "$to/bin/pip"
    ;;
  "pip install "*) ln -sf "$(readlink -f "$0")" "$here/cfn-init" ;;
  cfn-init*)
    cp -r @ROOT@/metadata/. @ROOT@/
    @ROOT@/usr/local/sbin/install-sift || true
    ;;
  "cast install "*)
    for folder; do :; done
    [ -e "$folder/.cast.yml" ] || exit 9
    mkdir -p @ROOT@/var/cache/cast/installer/logs
    cp @ROOT@/results.yaml @ROOT@/var/cache/cast/installer/logs/
    exit "$(cat @ROOT@/cast-result)"
    ;;
  "wall "*) cat >> @ROOT@/heard ;;
esac
