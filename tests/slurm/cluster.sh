#!/usr/bin/env bash
# A Slurm of one node on the loopback of this machine, for tests: no systemd, no accounting.
# Usage: cluster.sh start|stop DIR
#
# State, logs and pids are in DIR. The configuration is linked into /etc/slurm, where alone jobs
# look for it (they do not inherit SLURM_CONF): a machine that has one is refused.
set -euo pipefail

if (($# != 2)) || [[ $1 != start && $1 != stop ]]; then
    printf 'usage: cluster.sh start|stop DIR\n' >&2
    exit 2
fi
dir=$(realpath -m "$2")
linked=(slurm.conf gres.conf)

running() { [[ -s $dir/$1.pid ]] && kill -0 "$(<"$dir/$1.pid")" 2>/dev/null; }

stop() {
    local daemon name
    for daemon in slurmd slurmctld munged; do
        if running "$daemon"; then
            kill "$(<"$dir/$daemon.pid")"
            for _ in $(seq 100); do running "$daemon" || break; sleep 0.1; done
        fi
    done
    for name in "${linked[@]}"; do
        if [[ $(readlink "/etc/slurm/$name") = "$dir/$name" ]]; then rm "/etc/slurm/$name"; fi
    done
}

# Waits for a command to succeed.
await() {
    local what=$1
    shift
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    printf 'cluster.sh: %s did not start; see %s/*.log\n' "$what" "$dir" >&2
    exit 1
}
is_idle() { [[ $(sinfo --noheader --format=%T --partition=cpu) = idle ]]; }

start() {
    local name
    if [[ $(id -u) != 0 ]]; then
        printf 'cluster.sh: only root can start the daemons\n' >&2
        exit 1
    fi
    for name in "${linked[@]}"; do
        if [[ -e /etc/slurm/$name ]]; then
            printf 'cluster.sh: /etc/slurm/%s is there: this machine has a Slurm\n' "$name" >&2
            exit 1
        fi
    done
    trap 'stop' ERR
    mkdir -p "$dir"/{state,spool} /etc/slurm
    # Jobs only count these "GPUs"; they are /dev/null under other names.
    for name in gpu0 gpu1; do [[ -c $dir/$name ]] || mknod "$dir/$name" c 1 3; done
    printf 'Name=gpu File=%s/gpu[0-1]\n' "$dir" >"$dir/gres.conf"
    configuration >"$dir/slurm.conf"
    for name in "${linked[@]}"; do ln -s "$dir/$name" "/etc/slurm/$name"; done

    if ! munge --no-input >/dev/null 2>&1; then
        [[ -s /etc/munge/munge.key ]] || runuser -u munge -- mungekey --create
        install -d -o munge -g munge -m 755 /run/munge
        runuser -u munge -- munged
        cp /run/munge/munged.pid "$dir/munged.pid"
        await munged munge --no-input
    fi
    slurmctld
    await slurmctld scontrol ping
    slurmd
    await slurmd is_idle
    sinfo
}

configuration() {
    cat <<END
ClusterName=lnq
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=26817
SlurmdPort=26818
SrunPortRange=26900-26999
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
# Finished jobs stay visible to squeue, as there is no sacct.
MinJobAge=300
KillWait=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
GresTypes=gpu
DefMemPerCPU=200
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=$(hostname) Default=YES MaxTime=01:00:00 State=UP
PartitionName=gpu Nodes=$(hostname) MaxTime=01:00:00 State=UP
END
}

"$1"
