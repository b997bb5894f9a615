/* The outcome of a validation: as JSON (kvbudget.validate/1) and as a table made from the same
 * tree, so that the two cannot differ. */
#ifndef KVBUDGET_VALIDATE_REPORT_H
#define KVBUDGET_VALIDATE_REPORT_H

#include <stdio.h>

#include "planner/plan/json.h"
#include "validate/run.h"

struct validate_report_in {
    const struct run_options *options;
    const struct run_result *result;
    const struct subject *subjects;
    size_t n_subjects;
    const char *date;       /* "2026-11-21T08:00:00Z" */
    const char *driver;     /* of the GPU; NULL = none */
    const char *device_why; /* why the CPU build was taken; NULL = it was asked for */
    uint32_t clock_mhz, memory_clock_mhz; /* 0 = not told */
};

const char *validate_commit(void); /* that was built; "unknown" outside of a checkout */

/* The caller frees it with cJSON_Delete. */
cJSON *validate_json(const struct validate_report_in *in);

/* The answer in one sentence, then what was compared: every finding (verbose, or few of them),
 * else one line for each spec, the reasons of waivers, and all that failed. */
void validate_table(struct arena *a, const cJSON *json, bool verbose, FILE *out);

/* "120 of 121 predictions confirmed on the CPU build (count); 1 failed; 7 waived". */
const char *validate_sentence(struct arena *a, const cJSON *json);

#endif
