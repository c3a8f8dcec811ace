#!/usr/bin/env bash
# Gathers what is kept of the study on phantoms: the tables, verdicts and intervals of all seeds that
# are there, and of each seed the tables of every case and node, packed.
# Usage: collect.sh DIR STUDY
#
# DIR is where run.sh worked, or where seed*.tar.xz of STUDY were unpacked into DIR/made. The
# verdicts are computed from those tables alone:
#   mkdir -p again/made && cat STUDY/seed*.tar.xz | tar -xJi -C again/made
#   claims.py miniature/claims.tsv again/made/metrics
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

if (($# != 2)) || ! [[ -d $1/made/metrics ]]; then
    printf 'usage: collect.sh DIR STUDY; DIR/made/metrics must be there\n' >&2
    exit 2
fi
made=$1/made
mkdir -p "$2"
study=$(cd "$2" && pwd)
phases=$study/test.tsv

if [[ -d $1/phantoms/test ]]; then
    awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        !seen[$1]++ { print $1 "\t" $at["phase"] }' "$1/phantoms/test.tsv" >"$phases"
    "$here/false_positives.py" "$made/predicted" "$1/phantoms/test" >"$study/false-positives.tsv"
    while read -r seed; do
        (cd "$made" && find metrics models self-training -path "*/$seed/*" \
            \( -name cases.tsv -o -name lesions.tsv -o -name training.tsv -o -name cohorts.tsv \) \
            -print0 2>/dev/null | sort -z) |
            tar -C "$made" --null -T - --mtime=@0 --owner=0 --group=0 --numeric-owner \
                --mode=u=rw,go=r -cJf "$study/$seed.tar.xz"
    done < <(find "$made/metrics" -mindepth 2 -maxdepth 2 -name 'seed*' -printf '%f\n' | sort -u)
fi

"$here/claims.py" "$here/miniature/claims.tsv" "$made/metrics" >"$study/claims.tsv"
if compgen -G "$made/metrics/10-*" >/dev/null; then
    "$here/claims.py" "$here/miniature/claims-self-training.tsv" "$made/metrics" \
        >"$study/claims-self-training.tsv"
fi
"$here/results.py" "$made/metrics" --paper "$here/paper.tsv" --phases "$phases" \
    --places "$study/false-positives.tsv" --plot "$study/intervals.png" >"$study/tables.md"
