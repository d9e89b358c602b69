#!/usr/bin/env bash
# Setting glibc's trim threshold to its documented default changes what the process keeps.
#
# Version    glibc 2.36 (mallopt(3), M_TRIM_THRESHOLD "default 128*1024", and the note on the dynamic M_MMAP_THRESHOLD).
# Behaviour  One block of 31 MiB is allocated and freed. Then 40 blocks of 1 MiB are allocated, touched and freed. All
#            40 MiB stay resident. With MALLOC_TRIM_THRESHOLD_=131072 in the environment, the very default, nothing
#            does: setting any of the thresholds turns off the raising of both, by which the first free put the one for
#            mmap at 31 MiB and the one for trimming at 62 MiB.
# Guess      Setting a value to its default does nothing, and a block of 31 MiB is gone without a trace once freed.
# Matters    A server that once handled one large body keeps its later bursts. Who tunes the threshold downwards to find
#            out where memory goes sees the cure at the default already, and credits the wrong figure.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/burst.c" <<'END'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Resident MiB; reads with system calls alone, as stdio would allocate. */
static long resident(void) {
    char text[128] = {0};
    int file = open("/proc/self/statm", O_RDONLY);
    if (read(file, text, sizeof text - 1) < 0) exit(1);
    close(file);
    return atol(strchr(text, ' ')) * sysconf(_SC_PAGESIZE) / (1 << 20);
}

int main(void) {
    char *volatile one = malloc(31 << 20);
    free(one);
    long before = resident();
    char *blocks[40];
    for (int i = 0; i < 40; i++) memset(blocks[i] = malloc(1 << 20), 1, 1 << 20);
    for (int i = 0; i < 40; i++) free(blocks[i]);
    printf("%s\n", resident() - before >= 35 ? "keeps it all" : "gives back");
}
END
cc -O1 -o "$work/burst" "$work/burst.c"
seen=$(
    echo "as it comes: $("$work/burst")"
    echo "threshold set to the default: $(MALLOC_TRIM_THRESHOLD_=131072 "$work/burst")"
)

expected=$(cat <<'END'
as it comes: keeps it all
threshold set to the default: gives back
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
