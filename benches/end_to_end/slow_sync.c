/*
 * Makes a slow disk out of a fast one: preloaded into a server (LD_PRELOAD), each of its fsync and
 * fdatasync calls takes POSTRES_BENCH_SYNC_DELAY_US microseconds longer. The real call is still
 * made, after the delay.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void delay(void) {
    const char *text = getenv("POSTRES_BENCH_SYNC_DELAY_US");
    long micros = text ? atol(text) : 0;
    struct timespec left = {micros / 1000000, micros % 1000000 * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

int fsync(int fd) {
    delay();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    delay();
    return (int)syscall(SYS_fdatasync, fd);
}
