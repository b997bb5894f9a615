/* A check confirms one kind of prediction by running kernels: it says what it cannot judge
 * (waived, with the reason), runs, and compares. One check is one file validate/check/NAME.c;
 * the Makefile makes the registry from the folder listing.
 *
 * Each comparison is a finding: predicted, measured, and how far apart they may be. Levels:
 *   count   bytes and FLOPs tallied while kernels run on the CPU build equal the planner's
 *   fit     the largest batch that really allocates and decodes is the planner's
 *   clock   device time against the roofline; on a GPU only
 *   counters  the GPU's own counters of DRAM bytes and matrix instructions, where they may be
 *             read; run only when asked for */
#ifndef KVBUDGET_VALIDATE_CHECK_H
#define KVBUDGET_VALIDATE_CHECK_H

#include "kernels/device.h"
#include "planner/base/arena.h"
#include "planner/cost/work.h"

struct problem;

enum level { LEVEL_COUNT, LEVEL_FIT, LEVEL_CLOCK, LEVEL_COUNTERS };
enum { N_LEVELS = 4 };

enum verdict { VERDICT_PASSED, VERDICT_FAILED, VERDICT_WAIVED };

enum quantity {
    QUANTITY_BYTES,
    QUANTITY_FLOP,
    QUANTITY_TOKENS,
    QUANTITY_SEQUENCES,
    QUANTITY_SECONDS
};

/* What a summary of errors is made of. */
enum summary { SUMMARY_OTHER, SUMMARY_STEP, SUMMARY_PREFILL, SUMMARY_BATCH };
enum { N_SUMMARIES = 4 };

struct finding {
    const char *spec, *check, *what; /* "gqa bf16", "decode", "bytes read: layers 1-4" */
    enum level level;
    enum quantity quantity;
    enum summary summary;
    enum verdict verdict;
    double predicted, measured;
    double tolerance;   /* share of the predicted figure */
    const char *reason; /* of a failure or a waiver; "" */
    bool small;         /* of the spec's small twin */
};

struct findings {
    struct arena *arena;
    struct finding *list;
    size_t n, room;
};

/* What is validated: a solved spec, at a size that the device can run. */
struct subject {
    const char *name;
    const struct problem *problem;
    const struct layout *layout;
    const struct fold *fold;              /* of all layers, with the heads of one GPU */
    uint64_t prompt, decoded;             /* tokens of a sequence that are run */
    uint64_t asked_prompt, asked_decoded; /* those of the spec */
    unsigned levels;      /* bits of those that are run for it; 0 = all that are asked for */
    uint64_t limit_bytes; /* as check_in's, for this subject; 0 = that */
    const struct subject *small; /* a twin where this is too large for the CPU build; NULL */
    const char *cut;             /* of a twin: how it is smaller */
};

struct check_in {
    const struct subject *subject;
    struct device *device; /* opened for this check alone, with the limit */
    struct device_info info;
    const char *device_name; /* to open another one: "cpu", "cuda:0" */
    uint64_t limit_bytes;    /* of the device's memory; 0 = none */
    double timeout_s;
    uint64_t seed;
};

struct check {
    const char *name, *summary;
    enum level level;
    bool whole; /* runs the whole decoder: on the CPU build that of the twin */
    /* NULL, or why this subject cannot be judged on this device. */
    const char *(*filter)(const struct check_in *in);
    /* Adds findings. A status other than DEVICE_OK is the device's failure (its text is
     * device_error); comparisons that fail are findings. */
    enum device_status (*run)(const struct check_in *in, struct findings *out);
};

const struct check *check_at(size_t i); /* NULL past the end; by level, then by name */

/* Adds a finding of `like` (spec, check, what, level, figure). Whole figures must be equal;
 * within: |measured - predicted| <= tolerance * predicted, the limit included. Return whether
 * it passed. */
bool finding_equal(struct findings *f, struct finding like, uint64_t predicted,
                   uint64_t measured);
bool finding_within(struct findings *f, struct finding like, double predicted, double measured,
                    double tolerance);
void finding_waive(struct findings *f, struct finding like, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* measured / predicted; 1 where both are 0; negative where there is none. */
double finding_ratio(const struct finding *f);

const char *level_name(enum level l);
const char *verdict_name(enum verdict v);
const char *quantity_name(enum quantity f); /* "bytes", "flop", ... */
const char *summary_name(enum summary f);   /* "decode_step", "prefill", "max_batch" */

#endif
