#!/usr/bin/env bash
# Row 10 of the study on phantoms: a model fills the unknown of its own training labels, and goes on
# with them (../protocol-self-training.md). run.sh must have trained the teacher with these seeds.
# Usage: self-training.sh [-n SEEDS] [-t TEACHER] [-e EPOCHS] [DIR]
#
#   -n  seeds 0 … SEEDS − 1 (1); or FIRST-LAST, as 2-4
#   -t  the model that teaches and goes on: 5 or 9 (5)
#   -e  epochs more (20)
#
# Tables go into DIR/made/metrics/MODEL/seedN, as those of the other models: MODEL is 10-fused,
# 10-sure and 10-same, which goes on with the labels that it had. Each step keeps what is there.
set -euo pipefail

seeds=1
teacher=5
epochs=20
usage() {
    printf 'usage: self-training.sh [-n SEEDS] [-t 5|9] [-e EPOCHS] [DIR]\n' >&2
    exit 2
}
while getopts n:t:e: option; do
    case $option in
        n) seeds=$OPTARG ;;
        t) teacher=$OPTARG ;;
        e) epochs=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[[ $seeds =~ ^([0-9]+)-([0-9]+)$ || $seeds =~ ^()[1-9][0-9]*$ ]] || usage
first=${BASH_REMATCH[1]:-0}
last=${BASH_REMATCH[2]:-$((seeds - 1))}
[[ $epochs =~ ^[1-9][0-9]*$ ]] || usage
case $teacher in
    5) known=mask+anatomy ;;
    9) known=mask+anatomy+region ;;
    *) usage ;;
esac
cd "${1:-ablation}"
weak=made/sets/weak/$known
images() { find -L "$1" -name '*.nii.gz' -print0 | sort -z; }

# Trains a student on labels of B, and judges it on the test CTs: judged STUDENT SEED LABELS
judged() {
    local folder=made/self-training/$1/seed$2 tables=made/metrics/$1/seed$2
    lnq-train --cohort=full:made/sets/full/standard/images:made/sets/full/standard/labels:2.8 \
        --cohort="weak:$weak/images:$3:1" --recipe recipe.toml --set "epochs=$epochs" \
        --init "made/models/$teacher/seed$2" --seed "$2" --device cpu -s -m "$folder/model"
    images phantoms/test/ct |
        lnq-infer -0 -T - -m "$folder/model" --lungs hu --device cpu --no-mirror -s \
            -O "made/predicted/$1/seed$2"
    mkdir -p "$tables"
    images "made/predicted/$1/seed$2" |
        lnq-metrics -0 -T - --reference phantoms/test/truth -f -o "$tables/cases.tsv"
    images "made/predicted/$1/seed$2" |
        lnq-metrics -0 -T - --reference phantoms/test/truth --lesions -f -o "$tables/lesions.tsv"
}

{
    for ((seed = first; seed <= last; seed++)); do
        here=made/self-training/seed$seed
        images "$weak/images" |
            lnq-infer -0 -T - -m "made/models/$teacher/seed$seed" --lungs none --device cpu \
                --no-mirror -s -O "$here/seen" --probabilities "$here/probabilities"
        teach=(lnq-pseudolabel -0 -T - --teacher "$here/probabilities" -s)
        images "$weak/labels" | "${teach[@]}" --fg 0.5 --bg 0.5 -O "$here/fused"
        images "$weak/labels" | "${teach[@]}" --fg 0.9 --bg 0.1 -O "$here/sure"
        judged 10-fused "$seed" "$here/fused"
        judged 10-sure "$seed" "$here/sure"
        judged 10-same "$seed" "$weak/labels"
    done
} >>log
