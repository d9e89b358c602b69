#!/usr/bin/env bash
# With EPOLLEXCLUSIVE the first thread that registered gets all connections at low load.
#
# Version    Linux 6.18 (fs/eventpoll.c, ep_ptable_queue_proc: add_wait_queue_exclusive puts at the end; epoll_ctl(2)
#            says only "one or more").
# Behaviour  Four threads, each with an epoll of its own, registered one after the other for one listener. Twelve
#            connections come, each when all four wait. They go to the thread that registered first, though it is the
#            one that went back to waiting last.
# Guess      The last to wait is woken first, as the known "LIFO" of epoll and accept has it; or they take turns.
# Matters    A server of one epoll a thread is all on one core at low load, and which one is decided at the start:
#            pinning and per-thread metrics read as a fault. Under load the others do get some. To spread, give each
#            thread a listener of its own (SO_REUSEPORT).

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 60 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seen=$(python3 - <<'END'
import select, socket, threading, time

listener = socket.create_server(("127.0.0.1", 0), backlog=64)
listener.setblocking(False)
taken, done = [], threading.Event()


def serve(number, epoll):
    while not done.is_set():
        for _ in epoll.poll(0.5):
            try:
                listener.accept()[0].close()
                taken.append(number)
            except BlockingIOError:
                pass


threads = []
for number in range(1, 5):
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    threads.append(threading.Thread(target=serve, args=(number, epoll)))
for thread in threads:
    thread.start()
    time.sleep(0.1)
for _ in range(12):
    before = len(taken)
    socket.create_connection(listener.getsockname()).close()
    while len(taken) == before:
        time.sleep(0.01)
    time.sleep(0.05)
done.set()
for thread in threads:
    thread.join()
first = taken.count(1)
print("first registered got most:", first >= 9, "last registered got most:", taken.count(4) >= 9)
END
)

expected=$(cat <<'END'
first registered got most: True last registered got most: False
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
