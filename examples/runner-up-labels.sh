#!/usr/bin/env bash
# Training labels as the runner-up of LNQ2023 made them: what a model of completely annotated cases
# takes for node is node, too, and all that neither it nor the annotation does is background.
# Usage: runner-up-labels.sh ANNOTATIONS PROBABILITIES OUT
#
# The model, and its PROBABILITIES for the CTs of the incomplete ANNOTATIONS:
#   lnq-train --images full/ct --labels full/labels -m teacher
#   lnq-infer ct/*.nii.gz -m teacher -O predicted --probabilities PROBABILITIES
# Both are folders by case, .nii.gz; labels go into OUT/labels, what filled them into OUT/labels.tsv.
# Run it again and it goes on where it was interrupted.
set -euo pipefail
if (($# != 3)); then
    printf 'usage: runner-up-labels.sh ANNOTATIONS PROBABILITIES OUT\n' >&2
    exit 2
fi
annotations=$1 probabilities=$2 out=$3

find "$annotations" -name '*.nii.gz' -print0 | sort -z |
    lnq-weaklabel -0 -T - --strategy mask -s -O "$out/drawn" |
    lnq-pseudolabel -0 -T - --teacher "$probabilities" --fg 0.5 --bg 0.5 -s \
        -O "$out/labels" --table "$out/labels.tsv" | tr '\0' '\n'
