#!/usr/bin/env bash
# The whole chain on synthetic CTs: crop, weak labels, pseudo-labels, training, prediction,
# a diameter filter, metrics, a page to look at. Usage: demo.sh [DIR [lnq-train option]...]
#
# The phantoms are of the easy profile (bright nodes), so that a small network learns them on two
# CPU cores in minutes. The figures say that the chain works, not how well it does on patients.
# Each step keeps what is there (-s): run it again and it goes on where it was interrupted.
set -euo pipefail

out=${1:-demo}
shift $(($# > 0))
mkdir -p "$out"
log=$out/log
train=$out/train
test=$out/test
step() { printf '\n%s\n' "$*" >&2; }

step "1. Synthetic CTs with incomplete annotations: 10 to train on, 4 to test on"
lnq-phantom -n 10 --seed 1 --profile easy -s -j 2 -O "$train" >"$log"
lnq-phantom -n 4 --seed 2 --profile easy -s -j 2 -O "$test" >>"$log"

step "2. CTs cropped to the lungs, found from the HU alone"
lnq-crop "$train"/ct/*.nii.gz -s -j 2 -O "$train/cropped" >>"$log"

step "3. Training labels: what is not drawn is unknown (2), known anatomy is background (0)"
find "$train/weak" -name '*.nii.gz' -print0 | sort -z |
    lnq-weaklabel -0 -T - --strategy mask -s -O "$train/masked" |
    lnq-crop -0 -T - --label --like "$train/cropped" -s -O "$train/masked-cropped" |
    lnq-pseudolabel -0 -T - --anatomy "$train/anatomy" -s -O "$train/labels" >>"$log"

step "4. nnU-Net, a small one, trained on the CPU (minutes)"
lnq-train --images "$train/cropped" --labels "$train/labels" --recipe smoke --fold all "$@" \
    -s -m "$out/model" >>"$log"

step "5. Predictions for the test CTs, on their own grids; specks under 4 mm dropped"
find "$test/ct" -name '*.nii.gz' -print0 | sort -z |
    lnq-infer -0 -T - -m "$out/model" --lungs hu --no-mirror -s -O "$out/predicted" |
    lnq-filter-diameter -0 -T - --min 4 --metric ellipsoid-corrected -s -O "$out/final" >>"$log"

step "6. Agreement with the full truth"
lnq-metrics "$out"/final/*.nii.gz --reference "$test/truth" -f -o "$out/metrics.tsv" >>"$log"
lnq-metrics "$out"/final/*.nii.gz --reference "$test/truth" --summary -f -o "$out/summary.tsv" \
    >>"$log"
awk -F '\t' '{ printf "%-16s%-18s%-10.9s%-10.9s%-10.9s%.9s\n", $1, $2, $3, $5, $6, $7 }' \
    "$out/metrics.tsv"
awk -F '\t' '$1 == "dice" { printf "mean Dice %.3f over %d cases\n", $2, $7 }' "$out/summary.tsv"

step "7. A page with the numbers and every case in slices"
lnq-report "$out"/final/*.nii.gz --ct "$test/ct" --reference "$test/truth" -m "$out/model" \
    --title "Demo: predicted lymph nodes of synthetic CTs" -f -j 2 -O "$out/report" >>"$log"

cat <<END

Everything is in $out:
  train/ct  train/weak  train/anatomy  test/truth   the synthetic cohort
  train/cropped  train/labels                       what the network was trained on
  model                                             an nnU-Net results folder
  predicted  final                                  masks before and after the filter
  metrics.tsv  summary.tsv                          the table above, with every column
  log                                               the path of each file, as the tools print it
  report                                            the page; open it in a browser:
$out/report/index.html
END
