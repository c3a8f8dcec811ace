#!/usr/bin/env bash
# The ablation study on one machine, without Snakemake or Slurm: each step's tasks by xargs.
# Usage: parallel.sh SETTINGS [JOBS [TRAININGS]]
#
# examples/slurm/settings.sh shows what SETTINGS is. JOBS tasks run at once (2), but only TRAININGS
# (1) of those that train or run a network: as many as there are GPUs. Run it again and it goes on
# where it was interrupted. With GNU parallel instead of xargs, each task's output stays together:
#   seq 0 19 | parallel -j 4 --halt soon,fail=1 examples/slurm/steps.sh SETTINGS crop
set -euo pipefail
steps=$(cd "$(dirname "$0")" && pwd)/slurm/steps.sh
if (($# < 1)) || ! [[ -f $1 ]]; then
    printf 'usage: parallel.sh SETTINGS [JOBS [TRAININGS]]\n' >&2
    exit 2
fi
settings=$1

# All tasks of a step, some at once; xargs goes on after one that failed, and says so at the end.
all_of() {
    local tasks
    tasks=$("$steps" "$settings" tasks "$1")
    seq 0 "$((tasks - 1))" | xargs -n 1 -P "$2" "$steps" "$settings" "$1"
}

all_of crop "${2:-2}"
all_of labels "${2:-2}"
all_of train "${3:-1}"
all_of infer "${3:-1}"
"$steps" "$settings" judge
