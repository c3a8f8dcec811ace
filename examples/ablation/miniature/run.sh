#!/usr/bin/env bash
# The study of ../protocol.md on phantoms: the paper's models and others, real nnU-Net on the CPU.
# Usage: run.sh [-n SEEDS] [-r RECIPE] [-c FULL,WEAK,TUMOUR,TEST] [-m MODEL,...]
#            [-s SEED] [-x CONFIG] [DIR [snakemake option]...]
#
#   -n  trainings of each model, seeds 0 … SEEDS − 1 (1); or FIRST-LAST, as 2-4
#   -r  recipe of lnq-train, a name or a file (recipe.toml beside this script)
#   -c  cases of the cohorts (10,56,24,100); those that DIR has already stay in it
#   -s  seed of cohort A, the others follow (7101, the protocol's; to try things take another)
#   -x  configuration that is laid over config.yaml, as parts.yaml
#   -m  models to train (1,2,3,4,5,6,7,8,9,9b,11,12,oracle)
#
# Everything is made in DIR (ablation), the tables in DIR/made/results. Each step keeps what is
# there: run it again and it goes on where it was interrupted.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

seeds=1
recipe=$here/recipe.toml
cases=10,56,24,100
models=1,2,3,4,5,6,7,8,9,9b,11,12,oracle
seed=7101
configs=("$here/config.yaml")
usage() {
    printf 'usage: run.sh %s %s\n' '[-n SEEDS] [-r RECIPE] [-c FULL,WEAK,TUMOUR,TEST]' \
        '[-m MODEL,...] [-s SEED] [-x CONFIG] [DIR [snakemake option]...]' >&2
    exit 2
}
while getopts n:r:c:m:s:x: option; do
    case $option in
        n) seeds=$OPTARG ;;
        r) recipe=$OPTARG ;;
        c) cases=$OPTARG ;;
        m) models=$OPTARG ;;
        s) seed=$OPTARG ;;
        x) configs+=("$(realpath "$OPTARG")") ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
out=${1:-ablation}
shift $(($# > 0))
[[ $seeds =~ ^([0-9]+)-([0-9]+)$ || $seeds =~ ^()[1-9][0-9]*$ ]] || usage
first=${BASH_REMATCH[1]:-0}
last=${BASH_REMATCH[2]:-$((seeds - 1))}
[[ $seed =~ ^[1-9][0-9]*$ && $cases =~ ^([1-9][0-9]*,){3}[1-9][0-9]*$ ]] || usage
IFS=, read -r full weak tumour test <<<"$cases"

text=$(lnq-train --show-recipe --recipe "$recipe")
mkdir -p "$out/phantoms"
# An unchanged recipe keeps its file, and what was made with it.
if [[ $text != "$(cat "$out/recipe.toml" 2>/dev/null)" ]]; then
    printf '%s\n' "$text" >"$out/recipe.toml"
fi

cd "$out"
{
    lnq-phantom -n "$full" --seed "$seed" --profile ct-lymph-nodes -s -j 2 -O phantoms/full
    lnq-phantom -n "$weak" --seed $((seed + 1)) --profile lnq2023 -s -j 2 -O phantoms/weak \
        --table phantoms/weak.tsv
    lnq-phantom -n "$tumour" --seed $((seed + 2)) --profile nsclc -s -j 2 -O phantoms/tumour
    lnq-phantom -n "$test" --seed $((seed + 3)) --profile lnq2023 -s -j 2 -O phantoms/test \
        --table phantoms/test.tsv
} >log

# Of the annotated nodes, and of no others, the diameters are known.
if [[ ! phantoms/measured.tsv -nt phantoms/weak.tsv ]]; then
    awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR == 1 || $at["annotated"] == 1' \
        phantoms/weak.tsv >phantoms/measured.tsv
fi

exec snakemake "$@" --snakefile "$here/../Snakefile" --configfile "${configs[@]}" \
    --profile "$here/../profiles/local" \
    --config "seeds=[$(seq -s , "$first" "$last")]" "only=[$models]"
