/* What one sequence reads and holds, as a function of the tokens it has decoded, cut into
 * pieces that are affine in the decoded tokens: with them the simulator jumps over steps and
 * stays exact. Values come from the planner's rows (planner/cost/fold.h), never from a second
 * set of rules. */
#ifndef KVBUDGET_SIM_CURVE_H
#define KVBUDGET_SIM_CURVE_H

#include "planner/plan/problem.h"

enum { CURVE_CLASSES = 24 };
#define CURVE_FOREVER UINT64_MAX

struct curve_point {
    int64_t value, slope; /* at the first step, and what each further step adds */
};

/* Decode steps with `decoded`, decoded + 1, ... tokens cached after a prompt of n. What is read
 * is summed over the rows of a stage that cost the same a key (a group): */
struct curve_piece {
    struct curve_point keys[CURVE_CLASSES];  /* per group: keys attended, all its rows */
    struct curve_point bytes[CURVE_CLASSES]; /* per group: bytes read */
    uint64_t steps;                          /* the piece holds for so many steps, at least 1 */
};

struct curve_group { /* what a key costs */
    double scores_flop, values_flop, dequant_flop;
    double k_ratio; /* of the bytes: keys; the rest are values */
    bool index;     /* of an indexer */
    bool scheme;    /* what the cache schemes compute: keys in FLOP / CURVE_FLOP */
};
#define CURVE_FLOP (1.0 / 1024) /* fractions of a FLOP that a scheme's cost is rounded to */

struct curve_class; /* a read class and how its pieces are found (sim/stretch.h) */

struct curve {
    const struct problem *problem;
    const struct stage *stage;
    uint32_t index;   /* of the stage */
    uint32_t n_reads; /* groups */
    bool affine;      /* no window, cap, selection or residual: one piece for all time */
    bool context;     /* for measured steps: the one group counts cached tokens */
    bool scheme;      /* the schemes cost something in decode: the last group is theirs */
    bool even_chunks; /* equal chunks of a prompt cost an affine series (step_chunk_steps) */
    bool even_rows;   /* bytes held are a sum over rows of so many a token */
    bool even_bytes;  /* and affine in the tokens */
    struct curve_group groups[CURVE_CLASSES];
    struct curve_point first[2 * CURVE_CLASSES]; /* affine: keys, then bytes, at no tokens */
    double mixed_rows; /* of a kernel's tile that a decoding query takes beside prompts */
    const struct curve_class *classes;
    uint32_t n_classes;
    uint64_t token_bytes; /* of a prompt token in all stores */
    uint64_t write_bytes; /* appended by a decode step, states apart */
};

/* `context`: only cached tokens are to be counted, for a table of measured steps. errors:
 * DIAG_INPUT when a stage has more groups than CURVE_CLASSES. */
bool curve_build(struct arena *a, const struct problem *p, uint32_t stage, bool context,
                 struct diag *d, struct curve *out) __attribute__((warn_unused_result));

void curve_reads(const struct curve *c, uint64_t n, uint64_t decoded, struct curve_piece *out);

/* Pages. Memory of a stage is handed out in pages of kinds of rows that are stored alike. */
struct curve_kind {
    uint64_t block_tokens; /* tokens a page holds; 0 = one page a sequence, whatever its length
                              (a recurrent state, a slot). 1 with page_units 1: bytes are handed
                              out, and the "tokens" held are bytes, which grow by any number a
                              step */
    uint64_t page_units;   /* what a page takes of the pool, all layers of the kind */
};
struct curve_store { /* how a stage's memory is handed out */
    struct curve_kind kinds[CURVE_CLASSES];
    uint32_t n_kinds;
    uint64_t units;       /* of the whole pool */
    uint64_t unit_bytes;  /* what a unit is; 1 where bytes are handed out */
    uint64_t slot_tokens; /* the longest sequence a page of a slot engine takes; 0 = no limit */
};
/* Engines with a block pool: its kinds, units = blocks (of the stage with the fewest). Slots
 * reserved at start-up: a page a sequence. Paged engines without such a pool whose rows have a
 * whole number of bytes a token: a kind for rows of one length, units = bytes. All others: one
 * kind that hands out the bytes of planner/cost/fold.h exactly, scales, residual windows,
 * schemes' tables and the engine's own needs included. errors: DIAG_INPUT for more kinds than
 * CURVE_CLASSES, DIAG_INFEASIBLE without any memory for the cache. */
bool curve_store_build(const struct problem *p, uint32_t stage, struct diag *d,
                       struct curve_store *out) __attribute__((warn_unused_result));

/* Tokens one sequence keeps of each kind. While its prompt of n is computed up to `computed`
 * (rules that prune the prompt have not acted; with computed = n the peak of its last step). */
void curve_held_prefill(const struct curve *c, const struct curve_store *m, uint64_t n,
                        uint64_t computed, uint64_t held[CURVE_CLASSES]);
/* With `decoded` tokens fed back after it, what the last of these steps had to hold while it
 * ran included. For `*steps` (NULL: not asked; at least 1) further steps every kind grows by
 * its slope, never negative; the last of them may hold less than that, so ask again then. */
void curve_held_decode(const struct curve *c, const struct curve_store *m, uint64_t n,
                       uint64_t decoded, struct curve_point held[CURVE_CLASSES],
                       uint64_t *steps);

#endif
