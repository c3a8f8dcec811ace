#!/usr/bin/env bash
# Self-training on synthetic CTs: a model is trained on incomplete labels, says where it is sure
# on its own training CTs, and the next model is trained on labels filled with that.
# Usage: self-training.sh [DIR [ROUNDS [lnq-train option]...]]
#
# Each round fills the labels that people and anatomy gave, not those of the round before, so a
# teacher's mistake is not known for good. A round's Dice on test CTs goes into DIR/rounds.tsv.
# One round is about two minutes on one CPU core. Each step keeps what is there (-s): run it
# again and it goes on where it was interrupted, or with more ROUNDS where it ended.
#
# The phantoms are of the easy profile: the figures say that the chain works, not what self-training
# does on patients. A Dice of so small a training depends on its seed as much as on the round: compare
# several (--seed).
set -euo pipefail

out=${1:-self-training}
rounds=${2:-3}
shift "$(($# < 2 ? $# : 2))"
if ! [[ $rounds =~ ^[1-9][0-9]*$ ]]; then
    printf 'ROUNDS must be a number, not %s\n' "$rounds" >&2
    exit 2
fi
train_options=(--recipe smoke --fold all "$@")

train=$out/train
test=$out/test
mkdir -p "$out"
log=$out/log
step() { printf '\n%s\n' "$*" >&2; }
images() { find "$1" -name '*.nii.gz' -print0 | sort -z; }

step "Synthetic CTs with incomplete annotations: 6 to train on, 4 to test on"
{
    lnq-phantom -n 6 --seed 1 --profile easy -s -j 2 -O "$train"
    lnq-phantom -n 4 --seed 2 --profile easy -s -j 2 -O "$test"
    images "$train/ct" | lnq-crop -0 -T - -s -j 2 -O "$train/cropped"
    images "$train/weak" |
        lnq-weaklabel -0 -T - --strategy mask -s -O "$train/masked" |
        lnq-crop -0 -T - --label --like "$train/cropped" -s -O "$train/masked-cropped"
} >"$log"

teacher=()
for ((round = 1; round <= rounds; round++)); do
    here=$out/round$round
    mkdir -p "$here"

    step "Round $round: labels"
    images "$train/masked-cropped" |
        lnq-pseudolabel -0 -T - --anatomy "$train/anatomy" "${teacher[@]}" -s \
            -O "$here/labels" --table "$here/labels.tsv" >>"$log"

    step "Round $round: training"
    lnq-train --images "$train/cropped" --labels "$here/labels" "${train_options[@]}" -s \
        -m "$here/model" >>"$log"

    step "Round $round: test CTs"
    images "$test/ct" |
        lnq-infer -0 -T - -m "$here/model" --lungs hu --no-mirror -s -O "$here/predicted" >>"$log"
    images "$here/predicted" |
        lnq-metrics -0 -T - --reference "$test/truth" -f -o "$here/metrics.tsv"

    if ((round < rounds)); then
        step "Round $round: how sure the model is on its training CTs"
        images "$train/cropped" |
            lnq-infer -0 -T - -m "$here/model" --lungs none --no-mirror -s -O "$here/seen" \
                --probabilities "$here/probabilities" >>"$log"
        teacher=(--teacher "$here/probabilities" --fg 0.9 --bg 0.1
            --min-diameter 6 --metric ellipsoid-corrected)
    fi
done

# Adds up or averages a column of a table by its name.
column() {
    awk -F '\t' -v name="$2" -v mean="${3:-0}" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i; next }
        { sum += $at }
        END { if (mean) printf "%.4f", sum / (NR - 1); else printf "%d", sum }' "$1"
}

{
    printf 'round\tdice\tvoxels_unknown\tvoxels_teacher_foreground\tvoxels_teacher_background\n'
    for ((round = 1; round <= rounds; round++)); do
        here=$out/round$round
        printf '%d\t%s\t%s\t%s\t%s\n' "$round" "$(column "$here/metrics.tsv" dice 1)" \
            "$(column "$here/labels.tsv" voxels_unknown)" \
            "$(column "$here/labels.tsv" voxels_teacher_foreground)" \
            "$(column "$here/labels.tsv" voxels_teacher_background)"
    done
} >"$out/rounds.tsv"
cat "$out/rounds.tsv"
