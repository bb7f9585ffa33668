/* Run a command on one core and write what it used, as JSON.
 *
 *     meter CORE FILE COMMAND [ARGUMENT...]
 *
 * A program of its own because a process begins with the peak memory of whoever forked it (Linux,
 * exec_mmap): a child of the Python that drives the bench would never show less than that Python has. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile pid_t child;

static void pass_on(int number) {
    if (child > 0) kill(child, number);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double seconds(struct timeval time) {
    return (double)time.tv_sec + 1e-6 * (double)time.tv_usec;
}

int main(int count, char **words) {
    if (count < 4) return 2;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(atoi(words[1]), &cores);
    if (sched_setaffinity(0, sizeof cores, &cores)) {
        perror("meter: core");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGTERM, pass_on);
    signal(SIGINT, pass_on);
    double begun = now();
    child = fork();
    if (child == 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(words[3], words + 3);
        perror(words[3]);
        _exit(127);
    }
    int status;
    struct rusage used;
    while (wait4(child, &status, 0, &used) < 0)
        if (errno != EINTR) return 2;
    double wall = now() - begun;
    FILE *file = fopen(words[2], "w");
    if (!file) return 2;
    /* Kilobytes and blocks of 512 bytes: getrusage(2). */
    fprintf(file,
            "{\"status\": %d, \"wall\": %.6f, \"user\": %.6f, \"system\": %.6f, \"peak_rss\": %lld, "
            "\"disk_read\": %lld, \"disk_written\": %lld}\n",
            WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), wall, seconds(used.ru_utime),
            seconds(used.ru_stime), 1024ll * used.ru_maxrss, 512ll * used.ru_inblock, 512ll * used.ru_oublock);
    return fclose(file) ? 2 : 0;
}
