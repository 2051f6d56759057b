# Phases of a CI run, for `.ci/run` and `.ci/full` to source. Each phase's output goes to $logs/NAME.log; when the phase
# ends, its last lines are printed, and all of them if it failed.
#
#   phase NAME COMMAND …    run it; returns its exit code
#   beside NAME COMMAND …   start it and return; it runs beside the phases that follow
#   join NAME …             wait for phases that run beside; returns 1 if one of them failed
#   finish                  wait for all, print how each ended and its seconds; exits 1 if one failed
logs=${CI_LOGS:-$(mktemp -d "${TMPDIR:-/tmp}/continuum-ci.XXXXXX")}
mkdir -p "$logs"
tail_lines=12
phases=()
declare -A running=()

# One at a time, though phases run side by side.
report() {
    local name=$1 code=$2 seconds=$3
    {
        flock 9
        echo "$code $seconds" >"$logs/$name.end"
        if [ "$code" = 0 ]; then
            echo "=== $name: ok, $seconds s"
            tail -n "$tail_lines" "$logs/$name.log"
        else
            echo "=== $name: FAILED with exit code $code, $seconds s; all of its output:"
            cat "$logs/$name.log"
        fi
        echo
    } 9>"$logs/.printing"
}

run_phase() {
    local name=$1 begun=$SECONDS code=0
    shift
    "$@" >"$logs/$name.log" 2>&1 </dev/null || code=$?
    report "$name" "$code" $((SECONDS - begun))
    return "$code"
}

phase() {
    phases+=("$1")
    run_phase "$@"
}

# In a process group of its own, so that nothing of it outlives this script.
beside() {
    phases+=("$1")
    set -m
    run_phase "$@" &
    set +m
    running[$1]=$!
}

join() {
    local name code=0
    for name; do
        wait "${running[$name]}" || code=1
        unset "running[$name]"
    done
    return "$code"
}

stop_running() {
    local name
    for name in "${!running[@]}"; do
        kill -TERM -- "-${running[$name]}" 2>/dev/null || true
    done
}
trap stop_running EXIT

finish() {
    local name code seconds num_failed=0
    join "${!running[@]}" || true
    {
        for name in "${phases[@]}"; do
            read -r code seconds 2>/dev/null <"$logs/$name.end" || { code=killed seconds=0; }
            [ "$code" = 0 ] || num_failed=$((num_failed + 1))
            printf '%-12s exit %-6s %6d s\n' "$name" "$code" "$seconds"
        done
        printf '%-12s %11s %6d s, %d phase(s) failed; logs: %s\n' total "" "$SECONDS" "$num_failed" "$logs"
    } >"$logs/summary.txt"
    cat "$logs/summary.txt"
    [ "$num_failed" = 0 ]
    exit
}

# What some tests need of Debian: strace, and a real Slurm to train on two nodes. Where these cannot be
# installed, their tests are skipped.
debian() {
    if ! { command -v strace && command -v slurmctld; } && command -v apt-get && [ "$(id -u)" = 0 ]; then
        export DEBIAN_FRONTEND=noninteractive
        timeout 120 apt-get update -qq &&
            timeout 180 apt-get install -qq -y --no-install-recommends strace slurm-wlm munge ||
            echo "strace, slurm-wlm and munge could not be installed"
    fi
}

checks() { ruff check && ruff format --check && mypy && lint-imports && deptry .; }
