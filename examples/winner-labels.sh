#!/usr/bin/env bash
# Training labels as the winner of LNQ2023 made them: around each drawn node a coat of 2 voxels is
# background, so is every structure of TotalSegmentator but the aorta, and what lies outside the
# lungs' hull, but for whole slices at its ends; all else is unknown.
# Usage: winner-labels.sh ANNOTATIONS ANATOMY OUT
#
# ANNOTATIONS and ANATOMY are folders of masks and maps (as of lnq-anatomy) by case, .nii.gz; labels
# go into OUT/labels, what filled them into OUT/labels.tsv. Run it again and it goes on where it was
# interrupted. Cropped to the lungs (lnq-crop --label --like), they are for lnq-train.
set -euo pipefail
if (($# != 3)); then
    printf 'usage: winner-labels.sh ANNOTATIONS ANATOMY OUT\n' >&2
    exit 2
fi
annotations=$1 anatomy=$2 out=$3

find "$annotations" -name '*.nii.gz' -print0 | sort -z |
    lnq-weaklabel -0 -T - --strategy coat --margin 2 -s -O "$out/coat" |
    lnq-pseudolabel -0 -T - --anatomy "$anatomy" --structures=-aorta --outside hull -s \
        -O "$out/labels" --table "$out/labels.tsv" | tr '\0' '\n'
