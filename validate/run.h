/* Running the checks: every one on every spec, at a size that the device can run. */
#ifndef KVBUDGET_VALIDATE_RUN_H
#define KVBUDGET_VALIDATE_RUN_H

#include "planner/base/diag.h"
#include "validate/check.h"

struct run_options {
    const char *device;   /* "cpu" or "cuda:N" */
    unsigned levels;      /* bits 1 << LEVEL_* */
    uint64_t limit_bytes; /* as if the device had no more memory; 0 = as it is */
    uint64_t seed;
    double timeout_s; /* of a wait for a GPU; 0 = device.h's */
    /* Called before each check, and at the end with done == total; NULL: nobody looks. */
    void (*progress)(void *user, size_t done, size_t total, const char *what);
    void *user;
};

/* A spec to validate. At most RUN_PROMPT prompt and RUN_DECODED decoded tokens are run, more
 * of the prompt (up to RUN_PROMPT_MAX) where a retention rule drops nothing of fewer. */
enum { RUN_PROMPT = 448, RUN_DECODED = 64, RUN_PROMPT_MAX = 4096 };
/* More weights than this are cut down for checks of the whole decoder on the CPU build. */
enum { RUN_WEIGHTS_BYTES = 32 << 20 };
void run_subject(struct arena *a, const char *name, const struct problem *p,
                 struct subject *out);

/* What a run was made on. */
struct run_result {
    struct device_info info;
    struct findings findings;
    size_t n[3]; /* findings by verdict */
};

/* Runs. Comparisons that fail are findings and no errors. errors: DIAG_DEVICE when the device
 * cannot be opened or fails on the way; nothing is left allocated. */
bool run_checks(struct arena *a, const struct run_options *o, const struct subject *subjects,
                size_t n, struct diag *d, struct run_result *out)
    __attribute__((warn_unused_result));

/* "count,fit" to bits; an unknown word is a DIAG_USAGE. NULL: all levels but the counters,
 * which need rights that few have. */
bool run_levels(struct arena *a, const char *list, struct diag *d, unsigned *out)
    __attribute__((warn_unused_result));

#endif
