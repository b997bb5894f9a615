/* A request as it arrives and what became of it: the two records the simulator reads and
 * writes. */
#ifndef KVBUDGET_SIM_REQUEST_H
#define KVBUDGET_SIM_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

struct request {
    uint64_t id; /* 0, 1, 2, ... in order of arrival */
    double arrival_s;
    uint64_t prompt_tokens, output_tokens; /* each at least 1 */
    /* What the prompt begins with, for prefix reuse: one hash for each whole or started block
     * of `hash_tokens` tokens, each hash standing for everything before it too. 0 hashes:
     * nothing is known, the prompt shares nothing. Valid until the next request is read. */
    const uint64_t *hashes;
    uint32_t n_hashes;
    uint32_t hash_tokens;
};

enum request_end {
    REQUEST_DONE,
    REQUEST_REJECTED /* longer than the server takes, or than its whole cache holds */
};

struct outcome {            /* of one request; times in seconds on the clock of the trace */
    struct request request; /* hashes NULL */
    enum request_end end;
    double queued_s;        /* when the server noticed it: the end of the step it arrived in */
    double scheduled_s;     /* when the first step that ran some of it was composed: at its
                               start, or at that of the step before (sim/replica.h) */
    double first_s, last_s; /* first and last output token */
    uint64_t cached_tokens; /* of the prompt, found in the prefix cache when first scheduled */
    uint32_t preemptions;
    uint32_t replica; /* that produced its tokens */
};

#endif
