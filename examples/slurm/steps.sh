#!/usr/bin/env bash
# One step of the ablation study, or a part of it: a task of a job array, or a call of xargs.
# Usage: steps.sh SETTINGS STEP [TASK]
#
#   tasks STEP   print how many tasks a step has
#   crop TASK    CTs cropped to the lungs, a shard of each cohort
#   labels TASK  training labels, a shard of each kind
#   train TASK   a fold of a model
#   infer TASK   test cases of a model, a shard
#   judge        metrics, Table 3, tests, figures
#
# Tasks count from 0. Each keeps what is there (-s): run it again and it goes on where it was
# interrupted. examples/slurm/settings.sh shows what SETTINGS is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    printf 'usage: steps.sh SETTINGS tasks STEP | crop|labels|train|infer TASK | judge\n' >&2
    exit 2
}
if (($# < 2)) || ! [[ -f $1 ]]; then usage; fi
# shellcheck source=examples/slurm/settings.sh
source "$1"
step=$2
task=${3:-0}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cores}  # else torch takes the whole machine

# The rows of a table of the settings.
rows() { grep -v '^[[:space:]]*\(#\|$\)' <<<"$1"; }
images() { find -L "$1" -name '[!.]*.nii.gz' -print0 | sort -z; }
# Whether a shard of a folder's cases has any: a pipe of nothing is an error of the next tool.
has_cases() { (($(images "$1" | tr -dc '\0' | wc -c) > task)); }
lungs_of() {
    if [[ $lungs = anatomy ]]; then echo "$data/$1/anatomy"; else echo "$lungs"; fi
}

mapfile -t model_rows < <(rows "$models")
count_of() {
    case $1 in
        crop | labels) echo "$shards" ;;
        train) echo $((${#model_rows[@]} * ${#folds[@]})) ;;
        infer) echo $((${#model_rows[@]} * shards)) ;;
        *) usage ;;
    esac
}

# The folder of a kind of labels, as cohort/name.
labels_folder() {
    local cohort name how
    while read -r cohort name _ how _; do
        if [[ $cohort/$name = "$1" ]]; then
            if [[ $how = fill ]]; then how=filled; else how=weak; fi
            echo "$out/labels/$1/$how"
            return
        fi
    done < <(rows "$labels")
    printf 'steps.sh: a model wants labels %s, which are not in the table\n' "$1" >&2
    return 1
}

# A bad case does not stop the other cohorts; the task fails at its end.
crop() {
    local cohort failed=0
    for cohort in $(rows "$labels" | awk '{ print $1 }' | sort -u); do
        images "$data/$cohort/ct" |
            lnq-crop -0 -T - --shard "$task/$shards" --lungs "$(lungs_of "$cohort")" \
                -s -j "$cores" -O "$out/cropped/$cohort" | tr '\0' '\n' || failed=1
    done
    return "$failed"
}

labels() {
    local cohort name annotation how options folder failed=0
    while read -r cohort name annotation how options; do
        has_cases "$data/$cohort/$annotation" || continue
        folder=$out/labels/$cohort/$name
        # Options are words of the settings, without blanks in them.
        # shellcheck disable=SC2086
        images "$data/$cohort/$annotation" |
            lnq-weaklabel -0 -T - --shard "$task/$shards" $options -s -j "$cores" -O "$folder/drawn" |
            lnq-crop -0 -T - --label --like "$out/cropped/$cohort" -s -j "$cores" -O "$folder/weak" |
            if [[ $how = fill ]]; then
                lnq-pseudolabel -0 -T - --anatomy "$data/$cohort/anatomy" -s -j "$cores" \
                    -O "$folder/filled"
            else
                cat
            fi | tr '\0' '\n' || failed=1
    done < <(rows "$labels")
    return "$failed"
}

train() {
    local model kinds kind folder cohorts=()
    read -r model kinds <<<"${model_rows[task / ${#folds[@]}]}"
    for kind in $kinds; do
        folder=$(labels_folder "$kind")
        cohorts+=(--cohort "${kind%%/*}:$out/cropped/${kind%%/*}:$folder")
    done
    lnq-train "${cohorts[@]}" --recipe "$recipe" "${train_options[@]}" --seed "$seed" \
        --fold "${folds[task % ${#folds[@]}]}" -s -m "$out/models/$model"
}

infer() {
    local model
    read -r model _ <<<"${model_rows[task / shards]}"
    images "$data/test/ct" |
        lnq-infer -0 -T - --shard "$((task % shards))/$shards" -m "$out/models/$model" \
            --folds "$(IFS=,; echo "${folds[*]}")" --lungs "$(lungs_of test)" \
            "${infer_options[@]}" -s -O "$out/predicted/$model" | tr '\0' '\n'
}

judge() {
    local row model cases=() lesions=() results=$out/results
    mkdir -p "$results/cases" "$results/lesions"
    for row in "${model_rows[@]}"; do
        read -r model _ <<<"$row"
        images "$out/predicted/$model" |
            lnq-metrics -0 -T - --reference "$data/test/truth" -j "$cores" \
                -f -o "$results/cases/$model.tsv"
        images "$out/predicted/$model" |
            lnq-metrics -0 -T - --reference "$data/test/truth" -j "$cores" --lesions \
                -f -o "$results/lesions/$model.tsv"
        cases+=("$model=$results/cases/$model.tsv")
        lesions+=("$model=$results/lesions/$model.tsv")
    done
    lnq-compare "${cases[@]}" -f -o "$results/summary.tsv"
    if ((${#model_rows[@]} > 1)); then
        lnq-compare "${cases[@]}" --table pvalues -f -o "$results/pvalues.tsv"
    fi
    lnq-plot scores "${cases[@]}" --metric dice --metric assd_mm --width double \
        -f -o "$results/scores.png"
    lnq-plot overlap "${lesions[@]}" -f -o "$results/overlap.png"
    python3 "$here/../ablation/table3.py" --paper "$here/../ablation/paper.tsv" "${cases[@]}" \
        >"$results/table3.tsv"
    printf '%s\n' "$results/table3.tsv"
}

case $step in
    tasks) count_of "${3:-}" ;;
    crop | labels | train | infer)
        if ! [[ $task =~ ^[0-9]+$ ]] || ((task >= $(count_of "$step"))); then usage; fi
        "$step"
        ;;
    judge) judge ;;
    *) usage ;;
esac
