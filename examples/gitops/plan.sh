#!/usr/bin/env bash
# Prints, as Markdown, what each machine of snapshots/ would do: one table of those without an overlay, and a plan for each
# of the others. No store, no network. A comment holds 65,536 characters: what is more is cut off, and said.
set -euo pipefail
cd "$(dirname "$0")"

plan() { reconciler -o markdown "$@"; }

alike=()
{
  for snapshot in snapshots/*.json; do
    host=$(basename "$snapshot" .json)
    if [[ -e devices/$host.yaml ]]; then
      printf '\n**%s**\n\n' "$host"
      plan -f models.yaml -f "devices/$host.yaml" plan --observed "$snapshot"
    else
      alike+=(--observed "$snapshot")
    fi
  done
  if ((${#alike[@]})); then
    printf '\n**The others**\n\n'
    plan -f models.yaml plan "${alike[@]}"
  fi
} | python3 -c 'import sys
text, limit = sys.stdin.read(), 65_000
print(text if len(text) < limit else text[:limit].rpartition("\n")[0] + "\n\n_The rest does not fit here._")'
