# shellcheck shell=bash disable=SC2034
again='It is tried again every 15 minutes. Now: sudo systemctl start --no-block forensic-host'
once_more='Once more: sudo rm /var/lib/forensic-host/ended; sudo systemctl start --no-block forensic-host'
# say STATE TEXT...: to whoever logs in, and to the console, which needs neither port nor role to be read:
# aws ec2 get-console-output --latest. Those who are logged in hear of each end once, not of every attempt.
# What cannot be said, as on a full disk, is no failure of whoever says it.
say() {
  local state=$1 memory=/var/lib/forensic-host
  shift
  mkdir -p $memory || true
  echo "$state" > $memory/state || true
  printf '  %s\n' '' 'FORENSIC HOST of stack @AWS::StackName@' "$@" '' > /etc/motd || true
  echo "forensic-host: $(date -u +%FT%TZ) $state: $1" | tee /dev/console || true
  if [ "$state" != installing ] && ! cmp --silent /etc/motd $memory/said; then
    cp /etc/motd $memory/said || true
    wall < /etc/motd || true
  fi
}
# failed REASON WHAT-NEXT
failed() {
  say failed "SIFT is NOT installed: $1." 'The isolation is not affected: ssh to the isolated instances goes through.' \
    'Why: less /var/log/forensic-host.log' "$2"
}
# retry COMMAND...: six times in five minutes. Ubuntu's own updates hold apt's locks after boot, and routes come late.
retry() {
  local pause
  for pause in 10 20 40 80 160; do
    if "$@"; then return; fi
    sleep $pause
  done
  "$@"
}
