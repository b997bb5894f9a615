/* CUPTI through dlopen. Every call takes one struct that begins with its size, so that a table
 * of names and one function that calls and words the errors are enough. */
#include "validate/cupti.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RANGE_USER = 2, REPLAY_USER = 3, PROFILER_RANGE = 0 };
enum { VERSION_12_6 = 24, PASSES_MAX = 16 };
enum { NO_PRIVILEGE = 35, NO_PRIVILEGE_VIRTUAL = 40 };

/* Each struct ends in a field that is named last, or last_N where it is smaller than the
 * struct's alignment: its size does not count the padding behind it. */
#define SIZED(type, last) .size = offsetof(type, last) + sizeof(((type *)NULL)->last)

struct plain { /* initialize, deinitialize */
    size_t size;
    void *priv;
};
struct chip_args {
    size_t size;
    void *priv;
    size_t device;
    const char *name;
};
struct host_args {
    size_t size;
    void *priv;
    int profiler;
    const char *chip;
    const uint8_t *availability;
    void *host;
};
struct host_only { /* deinitialize */
    size_t size;
    void *priv;
    void *host;
};
struct metrics_args {
    size_t size;
    void *priv;
    void *host;
    const char **names;
    size_t n;
};
struct config_args { /* its size, and the image itself */
    size_t size;
    void *priv;
    void *host;
    size_t bytes;
    uint8_t *image;
};
struct passes_args {
    size_t size;
    void *priv;
    size_t bytes;
    uint8_t *image;
    size_t passes;
};
struct values_args {
    size_t size;
    void *priv;
    void *host;
    const uint8_t *data;
    size_t data_bytes, range;
    const char **names;
    size_t n;
    double *values;
};
struct enable_args {
    size_t size;
    void *priv;
    void *context;
    void *ranges;
};
struct range_args { /* disable, start, pop; with a name: push */
    size_t size;
    void *priv;
    void *ranges;
    const char *name;
};
struct data_args {
    size_t size;
    void *priv;
    void *ranges;
    const char **names;
    size_t n, max_ranges;
    uint32_t max_nodes;
    size_t bytes;
};
struct data_init_args {
    size_t size;
    void *priv;
    void *ranges;
    size_t bytes;
    uint8_t *data;
};
struct set_args {
    size_t size;
    void *priv;
    void *ranges;
    size_t config_bytes;
    const uint8_t *config;
    size_t data_bytes;
    uint8_t *data;
    int range, replay;
    size_t max_ranges;
    uint16_t levels, first_level;
    size_t pass;
    uint16_t target_level;
};
struct stop_args {
    size_t size;
    void *priv;
    void *ranges;
    size_t pass, level;
    uint8_t all_submitted;
};
struct decode_args {
    size_t size;
    void *priv;
    void *ranges;
    size_t dropped;
};

enum call {
    CALL_OPEN,
    CALL_CLOSE,
    CALL_CHIP,
    CALL_HOST_OPEN,
    CALL_HOST_CLOSE,
    CALL_ADD,
    CALL_CONFIG_BYTES,
    CALL_CONFIG,
    CALL_PASSES,
    CALL_VALUES,
    CALL_ENABLE,
    CALL_DISABLE,
    CALL_DATA_BYTES,
    CALL_DATA_INIT,
    CALL_SET,
    CALL_START,
    CALL_PUSH,
    CALL_POP,
    CALL_STOP,
    CALL_DECODE,
    N_CALLS
};

static const char *const calls[N_CALLS] = {
    [CALL_OPEN] = "cuptiProfilerInitialize",
    [CALL_CLOSE] = "cuptiProfilerDeInitialize",
    [CALL_CHIP] = "cuptiDeviceGetChipName",
    [CALL_HOST_OPEN] = "cuptiProfilerHostInitialize",
    [CALL_HOST_CLOSE] = "cuptiProfilerHostDeinitialize",
    [CALL_ADD] = "cuptiProfilerHostConfigAddMetrics",
    [CALL_CONFIG_BYTES] = "cuptiProfilerHostGetConfigImageSize",
    [CALL_CONFIG] = "cuptiProfilerHostGetConfigImage",
    [CALL_PASSES] = "cuptiProfilerHostGetNumOfPasses",
    [CALL_VALUES] = "cuptiProfilerHostEvaluateToGpuValues",
    [CALL_ENABLE] = "cuptiRangeProfilerEnable",
    [CALL_DISABLE] = "cuptiRangeProfilerDisable",
    [CALL_DATA_BYTES] = "cuptiRangeProfilerGetCounterDataSize",
    [CALL_DATA_INIT] = "cuptiRangeProfilerCounterDataImageInitialize",
    [CALL_SET] = "cuptiRangeProfilerSetConfig",
    [CALL_START] = "cuptiRangeProfilerStart",
    [CALL_PUSH] = "cuptiRangeProfilerPushRange",
    [CALL_POP] = "cuptiRangeProfilerPopRange",
    [CALL_STOP] = "cuptiRangeProfilerStop",
    [CALL_DECODE] = "cuptiRangeProfilerDecodeData",
};

/* The metrics of a counter; a chip has one of them, or none. All count a matrix instruction's
 * multiplies and adds as two operations.
 * source: the metrics that CUPTI 13.0 lists for TU102, GA100, GA102, AD102, GH100, GB100 and
 * GB202 (cuptiProfilerHostGetBaseMetrics): sm_75, 80, 86, 89, 90, 100 and 120 */
static const struct metric {
    const char *what;
    const char *names[3];
} metrics[N_COUNTERS] = {
    [COUNTER_DRAM_READ] = {"bytes read from DRAM",
                           {"dram__bytes_read.sum", "dram__bytes_op_read.sum" /* GB20x */}},
    [COUNTER_DRAM_WRITTEN] = {"bytes written to DRAM",
                              {"dram__bytes_write.sum", "dram__bytes_op_write.sum"}},
    [COUNTER_TENSOR_BF16] = {"matrix instructions on bf16",
                             {"sm__ops_path_tensor_src_bf16_dst_fp32.sum"}},
    [COUNTER_TENSOR_FP16] =
        {"matrix instructions on fp16",
         {"sm__ops_path_tensor_src_fp16_dst_fp32.sum",
          "sm__ops_path_tensor_src_fp16.sum",                      /* GH100 */
          "sm__ops_path_tensor_src_fp16_bf16_tf32_dst_fp32.sum"}}, /* TU10x */
};

struct cupti {
    struct arena *a;
    void *handle;
    const char *path, *chip;
    int (*fn[N_CALLS])(void *args);
    int (*version)(uint32_t *v);
    int (*text)(int status, const char **text); /* NULL: it has none */
    void *context;
    const char *names[N_COUNTERS]; /* NULL: not looked for yet, or the chip has none */
    bool started;
};

/* --- opening --------------------------------------------------------------------------------
 */

/* POSIX says that a symbol's address may be kept as a function's; C has no cast for it. */
static bool find(void *handle, const char *name, void *to)
{
    void *at = dlsym(handle, name);

    memcpy(to, &at, sizeof at);
    return at != NULL;
}

static void open_library(struct cupti *c)
{
    static const char *const names[] = {"libcupti.so.13", "libcupti.so.12"};
    static const char *const folders[] = {"extras/CUPTI/lib64", "lib64"};
    const char *asked = getenv("KVBUDGET_CUPTI"), *home = getenv("CUDA_HOME");

    home = home && *home ? home : "/usr/local/cuda";
    c->path = asked && *asked ? arena_strdup(c->a, asked) : names[0];
    c->handle = dlopen(c->path, RTLD_NOW | RTLD_LOCAL);
    for (int i = 1; i < 6 && !c->handle && !(asked && *asked); i++) {
        c->path = i == 1
                      ? names[1]
                      : arena_printf(c->a, "%s/%s/%s", home, folders[i / 2 - 1], names[i % 2]);
        c->handle = dlopen(c->path, RTLD_NOW | RTLD_LOCAL);
    }
    if (!c->handle)
        c->path = asked && *asked
                      ? arena_printf(c->a, "%s (KVBUDGET_CUPTI) cannot be opened", c->path)
                      : arena_printf(c->a,
                                     "no CUPTI: looked for libcupti.so.13 and .12 on the "
                                     "loader's path and in %s",
                                     home);
}

/* The context that the CUDA runtime has made current. A library that stands in for CUPTI brings
 * its own. */
static bool find_context(struct cupti *c)
{
    int (*current)(void **context) = NULL;
    void *driver;

    if (find(c->handle, "cuCtxGetCurrent", &current))
        return !current(&c->context) && c->context;
    driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); /* stays: CUDA holds it anyway */
    return driver && find(driver, "cuCtxGetCurrent", &current) && !current(&c->context) &&
           c->context;
}

static const char *missing_symbol(struct cupti *c)
{
    if (!find(c->handle, "cuptiGetVersion", &c->version))
        return "cuptiGetVersion";
    (void)find(c->handle, "cuptiGetResultString", &c->text);
    for (int i = 0; i < N_CALLS; i++)
        if (!find(c->handle, calls[i], &c->fn[i]))
            return calls[i];
    return NULL;
}

/* --- calls ----------------------------------------------------------------------------------
 */

static bool fails(struct cupti *c, enum call call, int status, const char **reason)
{
    const char *text = NULL;

    if (status == NO_PRIVILEGE || status == NO_PRIVILEGE_VIRTUAL)
        *reason =
            "this user may not read the GPU's counters (ERR_NVGPUCTRPERM): run as root or "
            "with CAP_SYS_ADMIN, or have the driver loaded with "
            "NVreg_RestrictProfilingToAdminUsers=0";
    else if (!c->text || c->text(status, &text) || !text)
        *reason = arena_printf(c->a, "%s: status %d", calls[call], status);
    else
        *reason = arena_printf(c->a, "%s: %s", calls[call], text);
    return false;
}

static bool ask(struct cupti *c, enum call call, void *args, const char **reason)
{
    int status = c->fn[call](args);

    return !status || fails(c, call, status, reason);
}

static bool start(struct cupti *c, unsigned device, const char **reason)
{
    struct plain open = {SIZED(struct plain, priv)};
    struct chip_args chip = {SIZED(struct chip_args, name), .device = device};
    const char *lacks = missing_symbol(c);
    uint32_t version = 0;

    if (!lacks || c->version)
        (void)!c->version(&version);
    if (lacks || version < VERSION_12_6) {
        *reason =
            version && version < VERSION_12_6
                ? arena_printf(c->a, "%s is version %u; 12.6 (24) is the first with ranges",
                               c->path, version)
                : arena_printf(c->a, "%s has no %s", c->path,
                               lacks ? lacks : "version of its own");
        return false;
    }
    if (!ask(c, CALL_OPEN, &open, reason))
        return false;
    c->started = true;
    if (!ask(c, CALL_CHIP, &chip, reason))
        return false;
    c->chip = arena_strdup(c->a, chip.name);
    if (!find_context(c))
        *reason = "CUDA has no current context";
    return c->context != NULL;
}

struct cupti *cupti_open(struct arena *a, unsigned device, const char **reason)
{
    struct cupti *c = ARENA_NEW(a, struct cupti, 1);

    c->a = a;
    open_library(c);
    *reason = c->path;
    if (c->handle && start(c, device, reason))
        return c;
    cupti_close(c);
    return NULL;
}

void cupti_close(struct cupti *c)
{
    struct plain args = {SIZED(struct plain, priv)};

    if (!c || !c->handle)
        return;
    if (c->started)
        (void)c->fn[CALL_CLOSE](&args);
    dlclose(c->handle);
}

/* --- metrics --------------------------------------------------------------------------------
 */

/* A host object that schedules these metrics; NULL: it cannot. */
static void *schedule(struct cupti *c, const char **names, size_t n, const char **reason)
{
    struct host_args host = {SIZED(struct host_args, host), .profiler = PROFILER_RANGE,
                             .chip = c->chip};
    struct metrics_args add = {SIZED(struct metrics_args, n), .names = names, .n = n};
    struct host_only close = {SIZED(struct host_only, host)};

    if (!ask(c, CALL_HOST_OPEN, &host, reason))
        return NULL;
    add.host = close.host = host.host;
    if (ask(c, CALL_ADD, &add, reason))
        return host.host;
    (void)c->fn[CALL_HOST_CLOSE](&close);
    return NULL;
}

const char *cupti_lacks(struct cupti *c, enum counter k)
{
    const struct metric *m = &metrics[k];
    struct host_only close = {SIZED(struct host_only, host)};
    const char *reason;

    for (size_t i = 0; i < sizeof m->names / sizeof *m->names && !c->names[k]; i++) {
        const char *name = m->names[i];
        close.host = name ? schedule(c, &name, 1, &reason) : NULL;
        if (!close.host)
            continue;
        c->names[k] = name;
        (void)c->fn[CALL_HOST_CLOSE](&close);
    }
    return c->names[k] ? NULL
                       : arena_printf(c->a, "CUPTI has no counter of %s on a %s (%s)", m->what,
                                      c->chip, m->names[0]);
}

/* --- counting -------------------------------------------------------------------------------
 */

struct session {
    struct cupti *c;
    const char *names[N_COUNTERS];
    size_t n, config_bytes, data_bytes;
    uint8_t *config, *data;
    void *host, *ranges;
};

static bool configure(struct session *s, const char **reason)
{
    struct cupti *c = s->c;
    struct config_args config = {SIZED(struct config_args, bytes), .host = s->host};
    struct passes_args passes = {SIZED(struct passes_args, passes)};

    if (!ask(c, CALL_CONFIG_BYTES, &config, reason))
        return false;
    s->config_bytes = config.bytes;
    s->config = ARENA_NEW(c->a, uint8_t, config.bytes + 1);
    config = (struct config_args){SIZED(struct config_args, image), .host = s->host,
                                  .bytes = s->config_bytes, .image = s->config};
    if (!ask(c, CALL_CONFIG, &config, reason))
        return false;
    passes.bytes = s->config_bytes;
    passes.image = s->config;
    if (!ask(c, CALL_PASSES, &passes, reason))
        return false;
    if (passes.passes <= PASSES_MAX)
        return true;
    *reason = arena_printf(c->a, "CUPTI wants %zu passes", passes.passes);
    return false;
}

static bool enable(struct session *s, const char **reason)
{
    struct cupti *c = s->c;
    struct enable_args on = {SIZED(struct enable_args, ranges), .context = c->context};
    struct data_args data = {SIZED(struct data_args, bytes), .names = s->names, .n = s->n,
                             .max_ranges = 1, .max_nodes = 1};
    struct data_init_args init = {SIZED(struct data_init_args, data)};
    struct set_args set = {SIZED(struct set_args, target_level),
                           .range = RANGE_USER,
                           .replay = REPLAY_USER,
                           .max_ranges = 1,
                           .levels = 1,
                           .first_level = 1,
                           .target_level = 1};

    if (!ask(c, CALL_ENABLE, &on, reason))
        return false;
    s->ranges = data.ranges = init.ranges = set.ranges = on.ranges;
    if (!ask(c, CALL_DATA_BYTES, &data, reason))
        return false;
    init.bytes = set.data_bytes = s->data_bytes = data.bytes;
    init.data = set.data = s->data = ARENA_NEW(c->a, uint8_t, data.bytes + 1);
    set.config = s->config;
    set.config_bytes = s->config_bytes;
    return ask(c, CALL_DATA_INIT, &init, reason) && ask(c, CALL_SET, &set, reason);
}

/* One pass over the work; *last: no more are needed. */
static bool pass(struct session *s, const struct cupti_work *w, bool *last, const char **reason)
{
    struct range_args plain = {SIZED(struct range_args, ranges), .ranges = s->ranges};
    struct range_args named = {SIZED(struct range_args, name), .ranges = s->ranges,
                               .name = "work"};
    struct stop_args stop = {SIZED(struct stop_args, all_submitted), .ranges = s->ranges};
    bool worked;

    *reason = NULL;
    if ((w->before && !w->before(w->user)) || !ask(s->c, CALL_START, &plain, reason) ||
        !ask(s->c, CALL_PUSH, &named, reason))
        return false;
    worked = w->run(w->user);
    if (!ask(s->c, CALL_POP, &plain, reason) || !ask(s->c, CALL_STOP, &stop, reason))
        return false;
    *last = stop.all_submitted;
    return worked;
}

static bool collect(struct session *s, const struct cupti_work *w, double *values,
                    const char **reason)
{
    struct decode_args decode = {SIZED(struct decode_args, dropped), .ranges = s->ranges};
    struct values_args v = {SIZED(struct values_args, values),
                            .host = s->host,
                            .data = s->data,
                            .data_bytes = s->data_bytes,
                            .names = s->names,
                            .n = s->n,
                            .values = values};
    bool last = false;

    for (int i = 0; i < PASSES_MAX && !last; i++)
        if (!pass(s, w, &last, reason))
            return false;
    return ask(s->c, CALL_DECODE, &decode, reason) && ask(s->c, CALL_VALUES, &v, reason);
}

bool cupti_count(struct cupti *c, const enum counter *list, size_t n,
                 const struct cupti_work *w, double *values, const char **reason)
{
    struct session s = {.c = c, .n = n};
    struct range_args off = {SIZED(struct range_args, ranges)};
    struct host_only close = {SIZED(struct host_only, host)};
    bool ok;

    for (size_t i = 0; i < n; i++) {
        *reason = cupti_lacks(c, list[i]);
        if (*reason)
            return false;
        s.names[i] = c->names[list[i]];
    }
    s.host = close.host = schedule(c, s.names, n, reason);
    if (!s.host)
        return false;
    ok = configure(&s, reason) && enable(&s, reason) && collect(&s, w, values, reason);
    off.ranges = s.ranges;
    if (s.ranges)
        (void)c->fn[CALL_DISABLE](&off);
    (void)c->fn[CALL_HOST_CLOSE](&close);
    return ok;
}
