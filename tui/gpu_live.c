/* One reading a second of NVML, kept as text. A library that fails once is closed for good. */
#include "tui/gpu_live.h"

#include <stdio.h>
#include <string.h>

#include "planner/base/nvml.h"
#include "planner/base/unit.h"

static const double PERIOD_S = 1.0;

static double gib(uint64_t bytes)
{
    return (double)bytes / (double)(1 << 30);
}

static void write_line(const struct nvml_facts *f, char *out, size_t n)
{
    const struct nvml_device *d = &f->devices[0];
    uint64_t free_bytes = d->free_bytes + d->reserved_bytes;
    uint64_t used = d->total_bytes > free_bytes ? d->total_bytes - free_bytes : 0;
    char warm[24] = "", more[24] = "", used_gib[24], all_gib[24];

    if (d->temperature_c >= 0)
        snprintf(warm, sizeof warm, ", %d C", d->temperature_c);
    if (f->n > 1)
        snprintf(more, sizeof more, "; %lu more", (unsigned long)f->n - 1);
    snprintf(used_gib, sizeof used_gib, "%.1f", gib(used));
    snprintf(all_gib, sizeof all_gib, "%.1f", gib(d->total_bytes));
    snprintf(out, n, "this machine: %.60s, %s of %s GiB in use%s%s", d->name, used_gib, all_gib,
             warm, more);
}

double gpu_live_deadline(const struct gpu_live *g, double now_s)
{
    if (!g->opened)
        return 0;
    if (!g->lib)
        return -1;
    return now_s - g->read_s >= PERIOD_S ? 0 : g->read_s + PERIOD_S - now_s;
}

bool gpu_live_read(struct gpu_live *g, double now_s)
{
    char before[GPU_LINE_BYTES];
    const char *reason = "";
    struct nvml_facts facts;
    struct arena *scratch;

    if (gpu_live_deadline(g, now_s) != 0)
        return false;
    if (!g->opened) {
        g->opened = true;
        g->arena = arena_new();
        g->lib = nvml_open(g->arena, &reason);
    }
    if (!g->lib)
        return false;
    memcpy(before, g->line, sizeof before);
    scratch = arena_new();
    g->read_s = now_s;
    g->line[0] = '\0';
    if (nvml_read(g->lib, scratch, &facts, &reason)) {
        write_line(&facts, g->line, sizeof g->line);
    } else {
        nvml_close(g->lib);
        g->lib = NULL;
    }
    arena_free(scratch);
    return strcmp(before, g->line) != 0;
}

void gpu_live_close(struct gpu_live *g)
{
    nvml_close(g->lib);
    arena_free(g->arena);
    *g = (struct gpu_live){0};
}
