#!/usr/bin/env bash
# Two hosts on one machine, for tests of several machines: network namespaces n1 and n2 with a veth pair, and Open MPI
# started from n1 over TCP. Needs root, iproute2, procps, openmpi-bin. Tried with Open MPI 4.1.4. Ranks notice by
# themselves that the hosts are cut apart; mpirun notices when the system gives its connections up.
#
#   two-hosts.sh up | down | run RANKS COMMAND...       RANKS an even number, half on each host
#   ip -n n1 link set va down                           cuts the hosts apart in mid-run
set -euo pipefail
case $1 in
up)
    for n in n1 n2; do ip netns add $n; ip -n $n link set lo up; done
    ip link add va type veth peer name vb
    ip link set va netns n1; ip link set vb netns n2
    ip -n n1 addr add 10.77.0.1/24 dev va; ip -n n2 addr add 10.77.0.2/24 dev vb
    ip -n n1 link set va up; ip -n n2 link set vb up
    # Some seconds of silence are a long time here; by default a connection with unanswered data lives for 15 minutes.
    for n in n1 n2; do ip netns exec $n sysctl -qw net.ipv4.tcp_retries2=5; done ;;
down) for n in n1 n2; do ip netns del $n 2>/dev/null || true; done ;;
run)
    ranks=$2; shift 2
    agent=$(mktemp); trap 'rm -f "$agent"' EXIT
    # What mpirun takes for ssh. The hosts' names must not resolve to this machine.
    printf '#!/usr/bin/env bash\nhost=$1; shift; exec ip netns exec "$host" unshare -u sh -c "hostname $host; $*"\n' >"$agent"
    chmod +x "$agent"
    ip netns exec n1 unshare -u sh -c 'hostname n1; exec "$@"' sh mpirun --allow-run-as-root --oversubscribe --bind-to none \
        --mca plm_rsh_agent "$agent" --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
        -H n1:$((ranks / 2)),n2:$((ranks / 2)) -n "$ranks" "$@" ;;
esac
