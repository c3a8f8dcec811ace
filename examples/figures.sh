#!/usr/bin/env bash
# The paper's figures, of what demo.sh leaves in its folder. Usage: figures.sh [DIR [FORM]]
#
# DIR is demo.sh's (demo), FORM png, svg or pdf (png). The figures go into DIR/figures; they are
# drawn anew each time. Two models are shown where a figure compares models: the predictions
# before and after the filter for specks.
set -euo pipefail

out=${1:-demo}
form=${2:-png}
train=$out/train
test=$out/test
if ! [[ -s $out/metrics.tsv ]]; then
    printf '%s: no metrics.tsv in it; examples/demo.sh makes one\n' "$out" >&2
    exit 2
fi
figures=$out/figures
tables=$figures/tables
mkdir -p "$tables"
images() { find "$1" -name '*.nii.gz' -print0 | sort -z; }

# The tables that the demo did not need.
images "$out/predicted" |
    lnq-metrics -0 -T - --reference "$test/truth" -f -o "$tables/predicted.tsv"
for model in predicted final; do
    images "$out/$model" |
        lnq-metrics -0 -T - --reference "$test/truth" --by-diameter 2.5 \
            --metric ellipsoid-corrected -f -o "$tables/$model-by-diameter.tsv"
done
lnq-stats --set "training, drawn=$train/weak" --set "training, all=$train/truth" \
    --set "test=$test/truth" --table diameters --metric ellipsoid-corrected \
    -f -o "$tables/diameters.tsv"

first=$(basename "$(find "$train/labels" -name '*.nii.gz' | sort | head -n 1)")
lnq-plot preprocess -f -o "$figures/preprocess.$form" \
    --row raw "$train/ct/$first" "$train/weak/$first" \
    --row cropped "$train/cropped/$first" "$train/masked-cropped/$first" \
    --row pseudo-labeled "$train/cropped/$first" "$train/labels/$first"
lnq-plot diameters "$tables/diameters.tsv" -f -o "$figures/diameters.$form"
lnq-plot overlap "unfiltered=$tables/predicted-by-diameter.tsv" \
    "filtered=$tables/final-by-diameter.tsv" -f -o "$figures/overlap.$form"
lnq-plot cases "$out/metrics.tsv" --ct "$test/ct" --prediction "$out/final" \
    --reference "$test/truth" --anatomy "$test/anatomy" -f -o "$figures/cases.$form"
lnq-plot training "$out/model/fold_all/training.tsv" -f -o "$figures/training.$form"
lnq-plot scores "unfiltered=$tables/predicted.tsv" "filtered=$out/metrics.tsv" \
    --metric dice --metric assd_mm --width double -f -o "$figures/scores.$form"
lnq-plot agreement "unfiltered=$tables/predicted.tsv" "filtered=$out/metrics.tsv" \
    --width double -f -o "$figures/agreement.$form"
