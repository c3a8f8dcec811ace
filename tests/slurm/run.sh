#!/usr/bin/env bash
# The workflow of examples/ablation on a real Slurm: 20 tiny cases, two models. A training is
# killed, and goes on; then the scheduling snakemake is killed, and the next one finishes. Then the
# job arrays of examples/slurm.
# Usage: run.sh [DIR]
#
# Wants root, slurmctld, slurmd, munge and the Slurm clients (Debian: slurmctld slurmd
# slurm-client munge), the tools and snakemake on the PATH; a few minutes. Without slurmctld it
# says so and ends with status 0. DIR (build/slurm) is made anew.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
examples=$here/../../examples
ablation=$examples/ablation

if ! command -v slurmctld >/dev/null; then
    echo "slurmctld is not installed: the workflow was not tested on Slurm"
    exit 0
fi
dir=${1:-build/slurm}
rm -rf "$dir"
mkdir -p "$dir"
dir=$(realpath "$dir")
export OMP_NUM_THREADS=1
began=$SECONDS
tell() { printf '%4d s  %s\n' "$((SECONDS - began))" "$*"; }
fail() {
    printf 'slurm-test: %s; see %s\n' "$*" "$dir" >&2
    exit 1
}

# Becomes snakemake: call it in a subshell.
workflow() {
    cd "$dir/work"
    exec snakemake --snakefile "$ablation/Snakefile" \
        --profile "$ablation/profiles/slurm" \
        --configfile "$ablation/miniature/config.yaml" "$here/config.yaml" \
        --default-resources slurm_partition=cpu mem_mb=600 runtime=5 \
        --slurm-status-command squeue --slurm-no-account --latency-wait 5 \
        --slurm-init-seconds-before-status-checks 3 --seconds-between-status-checks 3 "$@"
}

# Waits for a file while the workflow runs.
await() {
    until compgen -G "$1" >/dev/null; do
        kill -0 "$2" 2>/dev/null || fail "the workflow ended before $1 was there"
        sleep 0.2
    done
}
# Images and trained weights, with inode and time.
finished() {
    find "$dir/work/made" \( -name '*.nii.gz' -o -name checkpoint_final.pth \) \
        -printf '%i %T@ %p\n' | sort
}
count() { grep -c "$@" || true; }

tell "20 phantoms"
"$ablation/miniature/run.sh" -r "$here/recipe.toml" -c 4,8,2,6 -m 1,5 "$dir/work" \
    --dry-run --quiet all >"$dir/phantoms.log" 2>&1 || fail "no phantoms: phantoms.log"

trap '"$here/cluster.sh" stop "$dir/cluster"' EXIT
"$here/cluster.sh" start "$dir/cluster"
tell "Slurm runs"

(workflow) >"$dir/first.log" 2>&1 &
first=$!
fold=$dir/work/made/models/5/seed0/fold_all
await "$fold/checkpoint_latest.pth" "$first"
job=$(squeue --noheader --format='%i %k' --states=running | awk '/rule_train.*5/ { print $1 }')
[[ $job ]] || fail "no training of model 5 is running"
scancel --signal=KILL --full "$job"
tell "job $job, the training of model 5, is killed"

await "$dir/work/made/done/train/5/*/*.sha256" "$first"
runs=$(python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["runs"]))' \
    "$dir/work/made/models/5/seed0/lnq-train.json")
[[ $runs = 2 ]] || fail "model 5 was trained in $runs runs, not 2"
[[ $(tail -n +2 "$fold/training.tsv" | cut -f 1 | paste -sd ,) = 1,2,3,4,5,6,7,8,9,10,11,12 ]] ||
    fail "the epochs of model 5 are not 1 to 12"
[[ $(count 'Trying to restart' <"$dir/first.log") -ge 1 ]] || fail "nothing was restarted"
tell "it went on from its checkpoint, to all 12 epochs"

await "$dir/work/made/done/infer/*/*/*.sha256" "$first"
# The process that schedules, as if its node went down.
{
    kill -KILL "$first"
    wait "$first" || true
} 2>/dev/null
scancel --user="$(id -un)"
sleep 3 # longer than KillWait
finished >"$dir/before.txt"
tell "the scheduling snakemake is killed, and all its jobs"

(workflow --unlock) >"$dir/unlock.log" 2>&1 || fail "the folder could not be unlocked: unlock.log"
(workflow) >"$dir/second.log" 2>&1 || fail "the second run failed: second.log"
finished | grep -F -x -f "$dir/before.txt" | cmp -s - "$dir/before.txt" ||
    fail "finished images or models were made again"
tell "the next one finished; all $(wc -l <"$dir/before.txt") images and models were kept"

[[ $(tail -n +2 "$dir/work/made/results/table3.tsv" | cut -f 1,6 | paste -sd ' ') = $'1\t6 5\t6' ]] ||
    fail "table3.tsv is not of two models and six cases"
(workflow --dry-run) >"$dir/third.log" 2>&1
grep -q 'Nothing to be done' "$dir/third.log" || fail "something is left to be done: third.log"
tell "nothing is left to be done"
cat "$dir/work/made/results/table3.tsv"

mkdir -p "$dir/arrays/data/full" "$dir/arrays/data/weak"
cd "$dir/arrays"
phantoms=$dir/work/phantoms
ln -s "$phantoms/test" data/test
ln -s "$phantoms/full/ct" data/full/ct
ln -s "$phantoms/full/truth" data/full/bouget
ln -s "$phantoms/weak/ct" "$phantoms/weak/anatomy" data/weak
ln -s "$phantoms/weak/weak" data/weak/annotations
cat >settings.sh <<END
source "$examples/slurm/settings.sh"
lungs=hu recipe=$here/recipe.toml folds=(all) shards=3 cores=1 infer_options=(--no-mirror)
labels='full refined bouget - --strategy full
weak mask+anatomy annotations fill --strategy mask'
models='6 full/refined weak/mask+anatomy'
cpu_job=(--partition=cpu --mem=1G --time=5)
gpu_job=(--partition=gpu --gpus=1 --mem=2500M --time=10)
END
"$examples/slurm/submit.sh" settings.sh >jobs.tsv
tell "job arrays: $(paste -sd ' ' jobs.tsv)"
while [[ $(squeue --noheader --states=pending,running,completing) ]]; do sleep 1; done
[[ $(tail -n +2 ablation/results/table3.tsv | cut -f 1,6) = $'6\t6' ]] ||
    fail "the arrays' table3.tsv is not of one model and six cases"
tell "the job arrays made their table"
