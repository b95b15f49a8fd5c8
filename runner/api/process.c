/* The kernel's numbers about this process, under the names that Prometheus' own clients use. */
#include "base/clock.h"
#include "base/fd.h"
#include "runner/api/numbers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STAT_BYTES 1024

/* Fields of /proc/self/stat after the name, counted as proc(5) does. */
enum { FIELD_FIRST = 3, FIELD_THREADS = 20, FIELD_START = 22, FIELD_VSIZE = 23, FIELD_RSS = 24 };

static int read_stat(int64_t fields[FIELD_RSS + 1])
{
    char text[STAT_BYTES + 1], *at;
    AUTO(fd) int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, STAT_BYTES);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    at = strrchr(text, ')'); /* The name may contain any character. */
    at = at && at[1] == ' ' ? at + 2 : NULL;
    for (int i = FIELD_FIRST; at && i <= FIELD_RSS; i++) {
        fields[i] = strtoll(at, NULL, 10);
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    return at ? 0 : -1;
}

/* Counts open descriptors: newer kernels give the number as the directory's size. */
static int64_t count_fds(void)
{
    struct stat st;
    int64_t count = 0;
    struct dirent *entry;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        return st.st_size;
    DIR *list = opendir("/proc/self/fd");
    if (!list)
        return -1;
    while ((entry = readdir(list)))
        count += entry->d_name[0] != '.';
    closedir(list);
    return count - 1; /* Without the descriptor that was used to count. */
}

static double seconds(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static void print_use(struct metric_page *page)
{
    struct rusage use;
    struct rlimit limit;
    int64_t fds = count_fds();
    metric_family(page, "process_cpu_seconds_total", METRIC_COUNTER,
                  "Processor time of the runner itself, without its tasks.");
    if (getrusage(RUSAGE_SELF, &use) == 0)
        metric_value(page, seconds(&use.ru_utime) + seconds(&use.ru_stime), NULL);
    metric_family(page, "process_open_fds", METRIC_GAUGE, "Open descriptors.");
    if (fds >= 0)
        metric_count(page, fds, NULL);
    metric_family(page, "process_max_fds", METRIC_GAUGE, "How many there may be.");
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        metric_value(page, (double)limit.rlim_cur, NULL);
}

/* The start time, which the kernel counts in ticks since boot. */
static double start_time(int64_t ticks)
{
    struct timespec boot;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    double now = (double)clock_real_ms() / 1000.0;
    double up = (double)boot.tv_sec + (double)boot.tv_nsec / 1e9;
    return now - up + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

void api_print_process(struct metric_page *page)
{
    int64_t fields[FIELD_RSS + 1] = {0};
    print_use(page);
    if (read_stat(fields))
        return;
    metric_gauge(page, "process_threads", fields[FIELD_THREADS], "Threads.");
    metric_gauge(page, "process_resident_memory_bytes",
                 fields[FIELD_RSS] * (int64_t)sysconf(_SC_PAGESIZE), "Memory in use.");
    metric_gauge(page, "process_virtual_memory_bytes", fields[FIELD_VSIZE], "Address space.");
    metric_family(page, "process_start_time_seconds", METRIC_GAUGE, "When it started.");
    metric_value(page, start_time(fields[FIELD_START]), NULL);
}
