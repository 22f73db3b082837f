#!/bin/sh
# A linker for programs that name LLVM but never call it: like cc, and what is missing of LLVM becomes a function that
# says so and ends the program. Everything else that is missing is an error, as ever.
set -eu

# What links needs no more: build scripts, procedural macros.
if said=$(LC_ALL=C cc "$@" 2>&1); then
    exit 0
fi

output=a.out
previous=
for argument in "$@"; do
    if [ "$previous" = -o ]; then
        output=$argument
    fi
    previous=$argument
done

# What is missing: GNU's linker has just named everything; LLVM's stops after some and leaves holes with names.
cc "$@" -Wl,--unresolved-symbols=ignore-all
missing=$(
    {
        printf '%s\n' "$said" | sed -n -e "s/.*undefined reference to .\([A-Za-z0-9_]*\).*/\1/p" \
            -e 's/.*undefined symbol: \([A-Za-z0-9_]*\).*/\1/p'
        nm -D --undefined-only "$output" | awk '{ print $NF }'
    } | grep -E '^(LLVM|cubecl_)' | sort -u || true
)
rm -f "$output"
{
    cat <<'END'
#include <stdio.h>
#include <stdlib.h>
static void absent(const char *name) {
    fprintf(stderr, "error: this program was built without LLVM and called %s; use another device\n", name);
    abort();
}
END
    for name in $missing; do
        echo "void $name(void) { absent(\"$name\"); }"
    done
} > "$output.stubs.c"
cc -O1 -c "$output.stubs.c" -o "$output.stubs.o"
cc "$@" "$output.stubs.o"
