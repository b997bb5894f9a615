/* Measuring a GPU: what a profile's efficiencies stand for, by probes on this device, and the
 * profile that says so. `report` then uses it in place of the built-in one. */
#ifndef KVBUDGET_VALIDATE_CALIBRATE_H
#define KVBUDGET_VALIDATE_CALIBRATE_H

#include <stdio.h>

#include "planner/base/arena.h"
#include "planner/base/diag.h"
#include "planner/doc/profile.h"
#include "validate/timing.h"

/* The shapes of the probes: no model that validate judges by the clock has them. */
enum { CALIBRATE_HEADS = 48, CALIBRATE_KV_HEADS = 8, CALIBRATE_HEAD_DIM = 128 };
enum { CALIBRATE_GEMM = 6144 };

/* How much the probes do; sizes for a GPU are far above its caches. */
struct calibrate_size {
    uint64_t copy_bytes;                /* of the copy and of the read-only stream */
    uint32_t gemm;                      /* rows, columns and sums of the large product */
    uint32_t narrow_rows;               /* of the product that only reads weights */
    uint64_t narrow_bytes;              /* its weights, at least */
    uint32_t sequences, tokens, prompt; /* of attention */
    uint32_t launches;                  /* of an almost empty kernel, back to back */
};
struct calibrate_size calibrate_size_gpu(void);

struct calibration {
    struct device_info info;
    double copy_bytes_per_s;                  /* read and written together */
    double stream_bytes_per_s;                /* read only */
    double weight_bytes_per_s;                /* weights of a narrow product */
    double fp8_bytes_per_s, int4_bytes_per_s; /* the same stored so, kernels/weight.h */
    double cache_bytes_per_s;                 /* K and V in decode attention */
    double gemm_flop_per_s, attention_flop_per_s;
    double launch_s;
    uint64_t granularity_bytes; /* what a small allocation takes; 0 = not told apart */
    double spread;              /* the largest median distance of any probe, of its median */
};

/* Runs the probes. A failure is a DIAG_DEVICE with the probe's name. */
bool calibrate_measure(struct device *d, struct arena *a, const struct calibrate_size *size,
                       struct diag *diag, struct calibration *out)
    __attribute__((warn_unused_result));

struct calibrate_on {
    const char *driver, *date, *commit; /* "" = not told */
};

/* The profile as a document: that of the device's name with the measured efficiencies, each
 * with its source; where none has the name, a new one, its peaks being what was measured. */
struct doc_node *calibrate_profile(struct arena *a, const struct calibration *c,
                                   const struct calibrate_on *on, const struct profiles *known,
                                   struct diag *d);

#endif
