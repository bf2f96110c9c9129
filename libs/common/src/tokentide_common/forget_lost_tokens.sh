#!/bin/sh
# Forget the tokens of inserts whose rows a killed ClickHouse never had, then run COMMAND. No engine may have
# FOLDER open meanwhile.
#
#     sh forget_lost_tokens.sh FOLDER [COMMAND [ARGUMENT...]]
#
# The engine writes the token of an insert into the log of a table, and a moment later gives the part that holds
# the rows its name: killed in between, it refuses every repeat of rows that it does not have. Both steps are
# under one lock of the table, so at most the last line of its log is such a token.
# Source: MergeTreeSink::commitPart and MergeTreeDeduplicationLog of ClickHouse 26.9.
set -eu
folder=$1
shift
for logs in "$folder"/store/*/*/deduplication_logs; do
  [ -d "$logs" ] || continue
  # The newest that is not empty: a log is begun when the one before is full, which its last line may have done.
  # Lists are read before they are used: what cannot be read stops everything, and is not taken for missing.
  names=$(ls "$logs")
  log=
  for name in $(printf '%s\n' "$names" | sort -t _ -k 3 -n -r); do
    [ -s "$logs/$name" ] && log=$logs/$name && break
  done
  [ -n "$log" ] || continue
  # Operation (1: added), part (partition, first and last block, level) and token, between tabs.
  last=$(tail -n 1 "$log")
  part=$(printf '%s\n' "$last" | awk -F '\t' '$1 == 1 { print $2 }')
  [ -n "$part" ] || continue
  # The part itself, or one that it was merged into.
  parts=$(ls "${logs%/*}")
  found=$(printf '%s\n' "$parts" | awk -F _ -v part="$part" '
    BEGIN { split(part, lost) }
    $1 == lost[1] && $2 + 0 <= lost[2] + 0 && $3 + 0 >= lost[3] + 0 && NF > 3 { found = 1 }
    END { print found + 0 }
  ')
  [ "$found" -eq 0 ] || continue
  echo "forgot the token of a part that was never finished: ${logs%/*}/$part" >&2
  # One step that keeps the owner: whoever is killed here leaves the line, or no line.
  kept=$(($(wc -c <"$log") - $(tail -n 1 "$log" | wc -c)))
  dd if=/dev/null of="$log" bs=1 seek="$kept" 2>/dev/null || { echo "cannot write $log" >&2 && exit 1; }
done
[ $# -eq 0 ] || exec "$@"
