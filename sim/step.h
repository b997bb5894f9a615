/* The time of one engine step: the roofline (planner/cost/roofline.h) of what its batch reads
 * and computes, with the weights read once for all of it, and what the engine adds to each
 * step; or a table of measured steps (sim/step_table.h). Within a segment of equal steps every
 * op's bytes and FLOP are affine in the step, so the time of i steps has a closed form. */
#ifndef KVBUDGET_SIM_STEP_H
#define KVBUDGET_SIM_STEP_H

#include "sim/curve.h"
#include "sim/step_line.h"
#include "sim/step_table.h"

enum { STEP_STAGES = 16, STEP_CHUNKS = 1024 };

/* Part of a prompt that a step runs. */
struct step_chunk {
    uint64_t prompt, offset, tokens; /* tokens [offset, offset + tokens) of a prompt */
    bool last;                       /* the last of the prompt: samples a token */
};

/* The batch of the first step of a segment. Decodes are held as sums, so that adding and taking
 * one is O(groups) and exact. Step i of the segment has keys + i * slope and, when `stride` is
 * set, its single chunk moved on by i * tokens (for no more than step_chunk_steps steps). */
struct step_batch {
    uint64_t decodes;
    struct {
        struct curve_point keys[CURVE_CLASSES], bytes[CURVE_CLASSES];
    } sums[STEP_STAGES];
    struct step_chunk chunks[STEP_CHUNKS];
    uint32_t n_chunks;
    bool stride;
};
/* Adds (sign 1) or takes (sign -1) one decoding sequence's piece of a stage. `decodes` is the
 * caller's to count. */
void step_batch_add(struct step_batch *b, uint32_t stage, uint32_t n_reads,
                    const struct curve_piece *p, int sign);
/* Moves the sums on by `steps` decode steps. */
void step_batch_advance(struct step_batch *b, uint32_t n_stages, const uint32_t *n_reads,
                        uint64_t steps);

struct step_model {
    const struct problem *problem;
    struct curve curves[STEP_STAGES];
    uint32_t n_stages;
    double overhead_s;        /* what the engine adds to every step */
    const char *overhead_why; /* where that comes from */
    const struct step_table *table;
    /* A prompt cannot be cut into chunks: layers that read a layer above run over it several
     * times; rules that prune a prompt do it in the one pass over it (a second chunk would be
     * appended whole). */
    bool whole_prompts;
};

struct step_options {
    double overhead_s;      /* negative = the engine's own; none with a table */
    const char *table_path; /* CSV of measured steps; NULL = the roofline */
};

/* errors: DIAG_INPUT without a GPU whose speed is known, unless there is a table; more stages
 * than STEP_STAGES; a bad table. */
bool step_build(struct arena *a, const struct problem *p, const struct step_options *opt,
                struct diag *d, struct step_model *out) __attribute__((warn_unused_result));

/* How many equal chunks from this one on cost an affine series (the last chunk of a prompt,
 * and its shorter rest, are the caller's to tell apart). At least 1. */
uint64_t step_chunk_steps(const struct step_model *m, const struct step_chunk *c);

/* A segment made ready, for step_sum_s and step_count (sim/step_line.h). */
void step_prepare(const struct step_model *m, const struct step_batch *b,
                  struct step_line *out);

#endif
