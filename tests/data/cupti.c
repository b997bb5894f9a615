/* A stand-in for libcupti.so.13. tests/unit/validate_cupti.c compiles it, says what the
 * counters show through `stand_in`, and selects what it does: VERSION=n       its version
 * (130000) CHIP="name"     of the device ("GH100") NO_DECODE       a symbol that is needed is
 * missing NO_RIGHTS       the user may not read counters NO_DRAM         the chip counts no
 * bytes PASSES=n        so many passes for every set of metrics (1) NO_CONTEXT      CUDA was
 * not started NO_TEXT         it has no words for its errors Sizes are those of the structs in
 * NVIDIA's headers; calls out of order are errors. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef VERSION
#define VERSION 130000
#endif
#ifndef CHIP
#define CHIP "GH100"
#endif
#ifndef PASSES
#define PASSES 1
#endif

enum { OK, BAD_PARAMETER = 1, INVALID_OPERATION = 7, NO_METRIC = 17, PRIVILEGES = 35 };

/* Every struct of the interface as words of 8 bytes: w[0] is its size. */
union args {
    size_t w[12];
    const void *p[12];
};

struct stand_in {
    void (*pushed)(void *user);
    double (*value)(void *user, const char *metric);
    void *user;
    int live; /* hosts, ranges and the profiler that are open */
};
struct stand_in stand_in;

static int enabled, set, started, in_range, passes, host;

static int sized(const union args *a, size_t bytes)
{
    return a->w[0] == bytes && !a->w[1];
}

#define CALL(name, bytes, body)                                                                \
    int name(union args *a);                                                                   \
    int name(union args *a)                                                                    \
    {                                                                                          \
        if (!sized(a, bytes))                                                                  \
            return BAD_PARAMETER;                                                              \
        body return OK;                                                                        \
    }

int cuptiGetVersion(uint32_t *v);
int cuptiGetVersion(uint32_t *v)
{
    *v = VERSION;
    return OK;
}

#ifndef NO_TEXT
int cuptiGetResultString(int status, const char **text);
int cuptiGetResultString(int status, const char **text)
{
    *text = status == BAD_PARAMETER ? "CUPTI_ERROR_INVALID_PARAMETER"
                                    : "CUPTI_ERROR_INVALID_OPERATION";
    return OK;
}
#endif

int cuCtxGetCurrent(void **context);
int cuCtxGetCurrent(void **context)
{
#ifdef NO_CONTEXT
    *context = NULL;
#else
    *context = &stand_in;
#endif
    return OK;
}

static int known(const char *metric)
{
#ifdef NO_DRAM
    if (!strncmp(metric, "dram", 4))
        return 0;
#endif
    return !strcmp(metric, "dram__bytes_read.sum") ||
           !strcmp(metric, "dram__bytes_write.sum") ||
           !strcmp(metric, "sm__ops_path_tensor_src_bf16_dst_fp32.sum") ||
           !strcmp(metric, "sm__ops_path_tensor_src_fp16.sum");
}

CALL(cuptiProfilerInitialize, 16, stand_in.live++;)
CALL(cuptiProfilerDeInitialize, 16, stand_in.live--;)
CALL(cuptiDeviceGetChipName, 32, a->p[3] = CHIP;)
CALL(cuptiProfilerHostInitialize, 48, {
    if (strcmp(a->p[3], CHIP) != 0)
        return BAD_PARAMETER;
    stand_in.live++;
    a->p[5] = &host;
})
CALL(cuptiProfilerHostDeinitialize, 24, {
    if (a->p[2] != &host)
        return BAD_PARAMETER;
    stand_in.live--;
})
CALL(cuptiProfilerHostConfigAddMetrics, 40, {
    const char *const *names = a->p[3];
    for (size_t i = 0; i < a->w[4]; i++)
        if (!known(names[i]))
            return NO_METRIC;
})
CALL(cuptiProfilerHostGetConfigImageSize, 32, a->w[3] = 24;)
CALL(cuptiProfilerHostGetConfigImage, 40, {
    if (a->w[3] != 24)
        return BAD_PARAMETER;
    memset((void *)a->w[4], 7, 24);
})
CALL(cuptiProfilerHostGetNumOfPasses, 40, a->w[4] = PASSES;)
CALL(cuptiRangeProfilerEnable, 32, {
#ifdef NO_RIGHTS
    return PRIVILEGES;
#else
    if (enabled || a->p[2] != &stand_in)
        return INVALID_OPERATION;
    enabled = 1;
    stand_in.live++;
    a->p[3] = &enabled;
#endif
})
CALL(cuptiRangeProfilerDisable, 24, {
    if (!enabled || started)
        return INVALID_OPERATION;
    enabled = set = 0;
    stand_in.live--;
})
CALL(cuptiRangeProfilerGetCounterDataSize, 64, a->w[7] = 40;)
CALL(cuptiRangeProfilerCounterDataImageInitialize, 40, {
    if (a->w[3] != 40)
        return BAD_PARAMETER;
    memset((void *)a->w[4], 0, 40);
})
CALL(cuptiRangeProfilerSetConfig, 90, {
    if (!enabled || a->w[3] != 24 || a->w[5] != 40 || *(const char *)a->p[4] != 7)
        return BAD_PARAMETER;
    set = 1;
    passes = 0;
})
CALL(cuptiRangeProfilerStart, 24, {
    if (!set || started)
        return INVALID_OPERATION;
    started = 1;
})
CALL(cuptiRangeProfilerPushRange, 32, {
    if (!started || in_range)
        return INVALID_OPERATION;
    in_range = 1;
    stand_in.pushed(stand_in.user);
})
CALL(cuptiRangeProfilerPopRange, 24, {
    if (!in_range)
        return INVALID_OPERATION;
    in_range = 0;
})
CALL(cuptiRangeProfilerStop, 41, {
    if (!started || in_range)
        return INVALID_OPERATION;
    started = 0;
    *((uint8_t *)a + 40) = ++passes == PASSES;
})
#ifndef NO_DECODE
CALL(cuptiRangeProfilerDecodeData, 32, {
    if (passes != PASSES)
        return INVALID_OPERATION;
})
#endif
CALL(cuptiProfilerHostEvaluateToGpuValues, 72, {
    const char *const *names = a->p[6];
    double *values = (double *)a->w[8];
    for (size_t i = 0; i < a->w[7]; i++)
        values[i] = stand_in.value(stand_in.user, names[i]);
})
