#!/bin/sh
# Export the orders of tonight, and mail only when somebody should look.
#
#   nightly.sh FOLDER ADDRESS
#
# FOLDER holds exporter.toml, and exporter.env with EXPORTER_API_TOKEN=… (chmod 600). Datasets appear in
# FOLDER/nightly/. Call it again later: it goes on where it stopped, or does nothing where it succeeded.
set -eu

folder=$1
address=$2
cd "$folder"

if [ -e "nightly/$(date +%F)/manifest.json" ]; then
  exit 0
fi

set -a
# shellcheck source=/dev/null
. ./exporter.env
set +a

log=$(mktemp)
trap 'rm -f "$log"' EXIT

code=0
{
  exporter numbers --out numbers.txt --overwrite &&
    exporter run numbers.txt
} > "$log" 2>&1 || code=$?

case $code in
  0) exit 0 ;;
  2) what="settings or input cannot work" ;;
  3) what="published, with rejects" ;;
  4) what="too many rejects, nothing published" ;;
  5) what="the API refused the token" ;;
  6) what="the API is not available; the next call goes on" ;;
  7) what="storage failed; the next call goes on" ;;
  8) what="another run is still at work" ;;
  130 | 143) exit "$code" ;; # somebody stopped it, and knows
  *) what="it failed" ;;
esac

mail -s "Order export on $(uname -n): $what" "$address" < "$log"
exit "$code"
