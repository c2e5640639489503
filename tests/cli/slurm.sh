#!/usr/bin/env bash
# A private SLURM cluster on this machine: its own munge, accounting and virtual nodes n1, n2, ...
#   slurm.sh start DIR NODES    slurm.sh stop DIR
# DIR is absolute and empty.  Needs root and Debian's slurm-wlm, slurmdbd, munge, mariadb-server.
# Commands reach the cluster with SLURM_CONF=DIR/slurm.conf.
set -euo pipefail
action=$1 dir=$2

stop() {
  for pid in "$dir"/*.pid; do
    [ -e "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
  done
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

until_true() {
  for _ in $(seq 100); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  echo "slurm.sh: never came true: $*" >&2
  tail -n 5 "$dir"/*.log >&2
  return 1
}

munge_up() {
  mkdir -p "$dir/munge"
  chown munge "$dir/munge"
  (umask 077; head -c 1024 /dev/urandom >"$dir/munge/key")
  chown munge "$dir/munge/key"
  setpriv --reuid=munge --regid=munge --clear-groups munged --force \
    --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/munged.pid" \
    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
  ln -s munge/munged.pid "$dir/munged.pid"
}

accounting_up() {
  local port=$1
  mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$dir/db" \
    --auth-root-authentication-method=normal --skip-test-db >"$dir/install.log" 2>&1
  mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/db" --socket="$dir/db.socket" \
    --skip-networking --pid-file="$dir/mariadbd.pid" >"$dir/mariadbd.log" 2>&1 &
  until_true mariadb-admin --no-defaults --socket="$dir/db.socket" ping
  (umask 077; cat >"$dir/slurmdbd.conf") <<EOF
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
DbdHost=localhost
DbdPort=$port
SlurmUser=root
StorageType=accounting_storage/mysql
StorageUser=root
StorageHost=localhost
PidFile=$dir/slurmdbd.pid
LogFile=$dir/slurmdbd.log
EOF
  MYSQL_UNIX_PORT=$dir/db.socket SLURM_CONF=$dir/slurm.conf slurmdbd
}

start() {
  local nodes=$1 host memory dbd
  host=$(hostname -s)
  dbd=$(free_port)
  memory=$(free -m | awk '/^Mem:/ {print int($2 / 2)}')
  trap 'stop' ERR
  chmod 755 "$dir"
  cat >"$dir/slurm.conf" <<EOF
ClusterName=private
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge/socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool_%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd_%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd_%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$dbd
AccountingStoragePass=$dir/munge/socket
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmctldTimeout=10
SlurmdTimeout=10
ReturnToService=2
MpiDefault=none
EOF
  for node in $(seq "$nodes"); do
    echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=1 RealMemory=$memory"
  done >>"$dir/slurm.conf"
  echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$dir/slurm.conf"
  mkdir -p "$dir/state"
  munge_up
  accounting_up "$dbd"
  export SLURM_CONF=$dir/slurm.conf
  until_true timeout 5 sacctmgr -n show cluster
  sacctmgr -i add cluster private >/dev/null 2>&1 || true
  slurmctld
  for node in $(seq "$nodes"); do
    mkdir -p "$dir/spool_n$node"
    slurmd -N "n$node"
  done
  until_true sh -c "[ \$(sinfo -h -N -t idle | wc -l) = $nodes ]"
}

case $action in
  start) start "$3" ;;
  stop) stop ;;
esac
