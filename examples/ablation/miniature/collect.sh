#!/usr/bin/env bash
# Gathers what is kept of the study on phantoms: the tables, verdicts and intervals of all seeds that
# are there, and of each seed the tables of every case and node, packed.
# Usage: collect.sh DIR STUDY
#
# DIR is where run.sh worked, or where seed*.tar.xz of STUDY were unpacked into DIR/made. What STUDY
# has already of models and seeds that were not run in DIR stays, so machines can share the work.
# Verdicts are passed on the seeds that have every model, once these are the protocol's five, and
# computed from those tables alone:
#   mkdir -p again/made && cat STUDY/seed*.tar.xz | tar -xJi -C again/made
#   claims.py miniature/claims.tsv again/made/metrics 5
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

for packed in "$study"/seed*.tar.xz; do
    [[ ! -e $packed ]] || tar -C "$made" --skip-old-files -xJf "$packed"
done

# Links to the seeds in which each model of a table of claims was judged: seeds_with_all CLAIMS FOLDER
seeds_with_all() {
    local models model seed
    mapfile -t models < <(awk -F '\t' 'NR > 1 { print $3; print $4 }' "$1" | sort -u)
    for seed in "$made/metrics/${models[0]}"/seed*/; do
        seed=$(basename "$seed")
        for model in "${models[@]}"; do
            [[ -e $made/metrics/$model/$seed/cases.tsv ]] || continue 2
        done
        for model in "${models[@]}"; do
            mkdir -p "$2/$model" && ln -s "$(realpath "$made/metrics/$model/$seed")" "$2/$model/"
        done
    done
}

# verdicts CLAIMS: into STUDY, once a seed has every model
verdicts() {
    local whole
    whole=$(mktemp -d)
    seeds_with_all "$here/miniature/$1" "$whole"
    if compgen -G "$whole/*" >/dev/null; then
        "$here/claims.py" "$here/miniature/$1" "$whole" 5 >"$study/$1"
    fi
    rm -r "$whole"
}

if [[ -d $1/phantoms/test ]]; then
    awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        !seen[$1]++ { print $1 "\t" $at["phase"] }' "$1/phantoms/test.tsv" >"$phases"
    places=$study/false-positives.tsv
    here_found=$("$here/false_positives.py" "$made/predicted" "$1/phantoms/test")
    others=
    [[ ! -e $places ]] ||
        others=$(awk -F '\t' 'FNR == NR { here[$1, $2]; next } !(($1, $2) in here)' \
            - "$places" <<<"$here_found")
    printf '%s\n' "$here_found" ${others:+"$others"} >"$places"
    while read -r seed; do
        find "$made" -path "*/$seed/*" \
            \( -name cases.tsv -o -name lesions.tsv -o -name training.tsv -o -name cohorts.tsv \) \
            -printf '%P\0' |
            sort -z |
            tar -C "$made" --null -T - --mtime=@0 --owner=0 --group=0 --numeric-owner \
                --mode=u=rw,go=r -cJf "$study/$seed.tar.xz"
    done < <(find "$made/metrics" -mindepth 2 -maxdepth 2 -name 'seed*' -printf '%f\n' | sort -u)
fi

verdicts claims.tsv
verdicts claims-self-training.tsv
"$here/results.py" "$made/metrics" --paper "$here/paper.tsv" --phases "$phases" \
    --places "$study/false-positives.tsv" --plot "$study/intervals.png" >"$study/tables.md"
