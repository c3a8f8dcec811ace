#!/usr/bin/env bash
# The ablation study as job arrays of Slurm, each waiting for the one before.
# Usage: submit.sh SETTINGS
#
# settings.sh beside this script shows what SETTINGS is. If a task fails, what waits for it is
# canceled; submit again: finished cases and trainings are kept, begun trainings go on.
# The jobs' ids are printed, their output goes into slurm-log.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if (($# != 1)) || ! [[ -f $1 ]]; then
    printf 'usage: submit.sh SETTINGS\n' >&2
    exit 2
fi
settings=$(realpath "$1")
# shellcheck source=examples/slurm/settings.sh
source "$settings"
mkdir -p slurm-log

# Submits a step after the job before it; prints its id.
after=
submit() {
    local step=$1 tasks wait=()
    shift
    if [[ $step != judge ]]; then
        tasks=$("$here/steps.sh" "$settings" tasks "$step")
        wait+=(--array="0-$((tasks - 1))")
    fi
    if [[ $after ]]; then
        wait+=(--dependency="afterok:$after" --kill-on-invalid-dep=yes)
    fi
    after=$(sbatch --parsable --job-name="lnq-$step" --cpus-per-task="$cores" --requeue \
        --output="slurm-log/$step-%A-%a.txt" "${wait[@]}" "$@" \
        "$here/task.sbatch" "$here/steps.sh" "$settings" "$step")
    printf '%s\t%s\n' "$step" "$after"
}

submit crop "${cpu_job[@]}"
submit labels "${cpu_job[@]}"
submit train "${gpu_job[@]}"
submit infer "${gpu_job[@]}"
submit judge "${cpu_job[@]}"
