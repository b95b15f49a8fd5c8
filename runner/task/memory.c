#include "runner/task/memory.h"

#include "base/check.h"
#include "base/str.h"
#include "runner/config/config.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void task_memory_read(struct task_memory *ret_memory)
{
    char line[128];
    static const char name[] = "MemAvailable:";
    long long kib = -1;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && kib < 0 && fgets(line, sizeof(line), file))
        if (str_starts(line, name))
            kib = strtoll(line + sizeof(name) - 1, NULL, 10);
    if (file)
        fclose(file);
    ret_memory->total_mb = config_machine_memory_mb();
    ret_memory->available_mb = kib < 0 ? ret_memory->total_mb : kib / 1024;
    if (ret_memory->available_mb > ret_memory->total_mb)
        ret_memory->available_mb = ret_memory->total_mb;
}

int64_t task_memory_asked(const char *request, size_t len)
{
    struct err ignored;
    size_t size = 0;
    int64_t mb = 0;
    const char *limits = *request == '{' ? json_raw_member(request, len, "limits", &size) : NULL;
    AUTO(json) struct json *parsed = limits ? json_parse(limits, size, &ignored) : NULL;
    return json_int(json_get(parsed, "memoryMb"), &mb) == 0 && mb > 0 ? mb : 0;
}

bool task_memory_fits(const struct task_memory *memory, int64_t promised_mb, int64_t asked_mb)
{
    REQUIRE(asked_mb >= 0 && promised_mb >= 0);
    if (asked_mb == 0)
        return memory->available_mb >= MEMORY_UNNAMED_MB;
    return asked_mb <= memory->available_mb && promised_mb + asked_mb <= memory->total_mb;
}
