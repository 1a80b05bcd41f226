#!/bin/sh
# Export the orders of tonight, and mail only when somebody should look.
#
#   nightly.sh FOLDER ADDRESS
#
# FOLDER holds exporter.toml, and exporter.env with EXPORTER_API_TOKEN=… (chmod 600). Datasets appear in
# FOLDER/nightly/. Call it again later: it resumes after a failure, and does nothing after a success.
# It needs `mail`, and `flock` from util-linux.
set -u

folder=${1-}
address=${2-root}
output=

# The trap mails every failure, even before the first request. Without `mail` it goes to stderr.
finish() {
  code=$?
  trap - EXIT
  case $code in
    0 | 130 | 143) exit "$code" ;; # all is well, or somebody stopped it and knows
    2) what="settings or input cannot work" ;;
    3) what="published, with rejects" ;;
    4) what="too many rejects, nothing published" ;;
    5) what="the API refused the token" ;;
    6) what="the API is not available; the next call resumes" ;;
    7) what="storage failed; the next call resumes" ;;
    8) what="another run is still at work" ;;
    *) what="it failed" ;;
  esac
  printf '%s\n' "$output" | mail -s "Order export on $(uname -n): $what" "$address" ||
    printf '%s\n' "$output" >&2
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

refuse() {
  echo "$1"
  exit 2
}

work() {
  [ -n "$folder" ] || refuse "usage: nightly.sh FOLDER ADDRESS"
  cd "$folder" || refuse "$folder: expected a folder that this user can enter."

  # One lock for everything: listing uses the API too. The program inherits it, and holds it until it ends.
  command exec 9> nightly.lock || refuse "$folder: nightly.lock cannot be written."
  flock -n -E 8 9 || exit

  if [ -e "nightly/$(date +%F)/manifest.json" ]; then
    exit 0
  fi

  # The shell's message about a broken line would quote the token.
  set -a
  # shellcheck source=/dev/null
  { [ -r exporter.env ] && sh -n ./exporter.env && command . ./exporter.env; } 2> /dev/null ||
    refuse "$folder/exporter.env: expected readable lines of NAME=value."
  set +a

  exporter numbers --out numbers.txt --overwrite && exporter run numbers.txt
}

output=$(work 2>&1)
