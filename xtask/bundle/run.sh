#!/usr/bin/env bash
# Checks, trains and measures on this machine's GPU in under ten minutes, and prints the tables last.
#
#   bash run.sh                                   everything on cuda:0
#   bash run.sh --data cifar-10-batches-bin       trains on CIFAR-10 instead of the sprites
#   bash run.sh --phases 'check bench' --bench '--modes compile-bf16'
#   bash run.sh --device cpu --quick --total-s 120        does it work?
#
# Needs bash and, to measure PyTorch beside, a python3 with torch (PYTHON names another one). For CUDA, the
# toolkit's headers and NVRTC: of nvcc, /usr/local/cuda, or the pip packages that torch brings (CUDA_PATH names
# another place). Logs, tables, images, and the run's metrics and chosen kernels go to $OUT, or ./out; the run itself is
# kept where the log says. A phase that fails does not stop the others.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${OUT:-out}
python=${PYTHON:-python3}
device=cuda:0
precision=bf16
data=
recipe=
quick=
bench=
phases='devices check train bench'
total_s=570  # all phases together
check_s=90   # each precision of the check: the first compiles the most kernels
train_s=120  # training, without its start

usage() {
    echo "usage: bash run.sh [--device D] [--precision P] [--data CIFAR10_DIR] [--recipe FILE] [--phases LIST]" >&2
    echo "       [--total-s N] [--check-s N] [--train-s N] [--bench 'MORE OPTIONS'] [--quick]" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1; shift; continue ;;
    --device | --precision | --data | --recipe | --phases | --total-s | --check-s | --train-s | --bench) ;;
    *) usage ;;
    esac
    [ $# -ge 2 ] || usage
    case $1 in
    --device) device=$2 ;;
    --precision) precision=$2 ;;
    --data) data=$(realpath "$2") ;;
    --recipe) recipe=$(realpath "$2") ;;
    --phases) phases=$2 ;;
    --total-s) total_s=$2 ;;
    --check-s) check_s=$2 ;;
    --train-s) train_s=$2 ;;
    --bench) bench=$2 ;;
    esac
    shift 2
done

mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work/bin" "$work/lib"' EXIT # the run is kept
log=$out/log.txt
: >"$log"
summary=

say() { printf '%s\n' "$*" | tee -a "$log"; }

left() { echo $((total_s - SECONDS)); }

# What is left of the time, and at most so much.
within() {
    local most=$1 rest
    rest=$(left)
    echo $((rest < most ? rest : most))
}

wants() { case " $phases " in *" $1 "*) true ;; *) false ;; esac; }

# phase NAME SECONDS COMMAND...: runs it, its output into the log and shown; keeps in mind how it ended.
phase() {
    local name=$1 limit=$2 began=$SECONDS rc
    shift 2
    say "== $name: $* (at most $limit s)"
    if [ "$limit" -lt 5 ]; then
        rc='the time was up'
    else
        timeout -k 15 "$limit" "$@" 2>&1 | tee -a "$log"
        rc=${PIPESTATUS[0]}
    fi
    case $rc in
    0) rc=ok ;;
    124 | 137) rc="failed: not done after $limit s" ;;
    [0-9]*) rc="failed: exit code $rc" ;;
    esac
    summary+="$name: $rc, $((SECONDS - began)) s"$'\n'
    say "== $name: $rc"
    [ "$rc" = ok ]
}

unpack() {
    mkdir -p "$work/bin"
    if [ -f "$here/binaries.tar.xz" ]; then
        tar -xJf "$here/binaries.tar.xz" -C "$work/bin" 2>/dev/null ||
            "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' \
                "$here/binaries.tar.xz" "$work/bin"
    else
        tar -xf "$here/binaries.tar" -C "$work/bin"
    fi && cp -r "$here/peer" "$work/bin/peer"
}

# CUDA_PATH, below which include/cuda_fp16.h lies, and LD_LIBRARY_PATH to NVRTC and the driver.
find_cuda() {
    local candidates=() folder library libraries=${LD_LIBRARY_PATH:-}
    [ -n "${CUDA_PATH:-}" ] && candidates+=("$CUDA_PATH")
    command -v nvcc >/dev/null && candidates+=("$(dirname "$(dirname "$(realpath "$(command -v nvcc)")")")")
    candidates+=(/usr/local/cuda /usr/local/cuda-*)
    while IFS= read -r folder; do
        candidates+=("$folder"/cu1* "$folder"/cuda_runtime "$folder"/cuda_nvrtc)
    done < <("$python" -c 'import sys; print("\n".join(p + "/nvidia" for p in sys.path if p))' 2>/dev/null)
    # crt/mma.h is for the matrix units; pip packs it apart from the rest in CUDA 12, and only some kernels want it.
    local found= wanted
    for wanted in crt/mma.h cuda_fp16.h; do
        for folder in "${candidates[@]}"; do
            if [ -z "$found" ] && [ -f "$folder/include/cuda_fp16.h" ] && [ -f "$folder/include/$wanted" ]; then
                found=$folder
            fi
        done
    done
    if [ -z "$found" ]; then
        say 'CUDA: no toolkit headers found; set CUDA_PATH to the folder above include/cuda_fp16.h'
        return 1
    fi
    export CUDA_PATH=$found
    library=
    for folder in "$found" "${candidates[@]}"; do
        for library in "$folder"/lib64/libnvrtc.so* "$folder"/lib/libnvrtc.so* "$folder"/targets/*/lib/libnvrtc.so*; do
            [ -e "$library" ] && break 2
        done
        library=
    done
    if [ -n "$library" ]; then
        # pip's packages have a version at the end of the name, which a program built for another one does not ask for.
        mkdir -p "$work/lib"
        ln -sf "$(realpath "$library")" "$work/lib/libnvrtc.so"
        libraries=$work/lib:$(dirname "$library")${libraries:+:$libraries}
    fi
    for folder in /usr/local/nvidia/lib64 /usr/lib/x86_64-linux-gnu; do
        [ -e "$folder/libcuda.so.1" ] && libraries=${libraries:+$libraries:}$folder
    done
    export LD_LIBRARY_PATH=$libraries
    say "CUDA: headers in $CUDA_PATH/include, NVRTC ${library:-as the system finds it}"
}

train() {
    local settings=() run=$work/run grids
    echo "the run: $run"
    cd "$here" || return 1 # recipes name their data from here
    if [ -n "$data" ]; then
        recipe=${recipe:-configs/ddpm-cifar10.toml}
        settings=(--set "data.path=$data" --set train.sample_every=1000 --set train.checkpoint_every=1000
            --set optim.warmup_steps=200 --set ema.decay=0.995 --set sample.sampler=ddim --set sample.steps=50)
    elif [ -n "$quick" ]; then
        recipe=${recipe:-configs/digits.toml}
        settings=(--set train.steps=40 --set train.batch=8 --set optim.warmup_steps=5)
    else
        recipe=${recipe:-configs/sprites-gpu.toml}
    fi
    if [ "$precision" != f32 ]; then
        if "$work/bin/ddpm" train "$recipe" "${settings[@]}" --set "train.precision=$precision" --dry-run \
            --device "$device" --run "$run" >>"$log" 2>&1; then
            settings+=(--set "train.precision=$precision")
        else
            echo "training in f32: precision $precision was refused (see the log)"
        fi
    fi
    # SIGTERM ends a run with a checkpoint, and exit code 75.
    timeout -s TERM -k 30 "$train_s" "$work/bin/ddpm" train "$recipe" "${settings[@]}" --device "$device" --run "$run"
    local rc=$?
    cp "$run/metrics.jsonl" "$run/config.toml" "$run/cache/kernels.json" "$out" 2>/dev/null
    grids=$(find "$run/samples" -name '*.png' 2>/dev/null | sort | tail -n 1)
    [ -n "$grids" ] && cp "$grids" "$out/grid-of-training.png"
    case $rc in
    0 | 75 | 124) ;;
    *) return $rc ;;
    esac
    "$work/bin/ddpm" sample --model "$run" --device "$device" --n 64 --sampler ddim --steps 50 --grid "$out/grid.png"
}

measure() {
    local options=(--device "$device" --binaries "$work/bin" --json "$out/bench.json" --limit-s "$1"
        --mode-limit-s 150)
    [ -n "$quick" ] && options+=(--quick)
    if "$python" -c 'import torch' >/dev/null 2>&1; then
        options+=(--peer "$python")
    else
        echo "$python has no torch, so nothing is measured beside ours"
    fi
    # shellcheck disable=SC2086 # several options in one
    "$work/bin/xtask" bench "${options[@]}" $bench >"$out/tables.md"
}

# So that they can be given a time: `timeout` runs programs, not functions.
export -f unpack train measure
export here out work log python device precision data recipe quick bench train_s

phase unpack "$(within 60)" bash -c unpack || {
    printf '%s' "$summary"
    exit 1
}
case $device in
cuda*) find_cuda ;;
esac
say "$("$python" --version 2>&1); $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null)"

if wants devices; then
    phase devices "$(within 30)" "$work/bin/ddpm" devices
fi
if wants check; then
    case $device in
    cuda*) precisions='bf16 tf32 f32' ;;
    *) precisions=f32 ;;
    esac
    for each in $precisions; do
        phase "check $each" "$(within "$check_s")" "$work/bin/ddpm-bench" check --device "$device" --precision "$each"
    done
fi
if wants train; then
    # Its start, its last checkpoint and the images drawn after it take time too.
    phase train "$(within $((train_s + 90)))" bash -c train
fi
if wants bench; then
    limit=$(within 100000)
    phase bench "$limit" bash -c "measure $((limit > 40 ? limit - 20 : limit))"
fi

{
    echo
    echo "Phases:"
    printf '%s' "$summary"
    [ -f "$out/metrics.jsonl" ] && printf 'Last line of the training log: %s\n' "$(tail -n 1 "$out/metrics.jsonl" | cut -c 1-400)"
    [ -f "$out/tables.md" ] && echo && cat "$out/tables.md"
    true
} | tee -a "$log" | tee "$out/summary.txt"
case $summary in
*failed* | *'time was up'*) exit 1 ;;
esac
