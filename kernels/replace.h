/* One row out for one in: a decode step of the methods that stay at a budget. A head of a full
 * sequence has heavy + recent rows, in places
 *
 *     [0, heavy)                 rows that stay while their scores are high, in any order
 *     [heavy, heavy + recent)    the newest rows, as a ring whose oldest is at heavy + slot
 *
 * The step appends its row at place heavy + recent, attends over all heavy + recent + 1 rows
 * and adds their scores (scores_run). Then replace_run lets the oldest of the ring compete with
 * the heavy ones for their places: the lowest score goes, among equals the oldest of the ring
 * first and then the highest place. The new row takes the freed place of the ring, and the
 * lengths are heavy + recent again. Without a ring the new row itself competes; without scores
 * the oldest of the ring goes. At most two rows a head move.
 *
 *     H2O           heavy, recent      scores added up, step after step
 *     TOVA          heavy = capacity   scores of this step, the same for all heads (pool_run)
 *     StreamingLLM  heavy = sinks      no scores; ring.h does it without moving anything
 *
 * After a prompt, select_run with `recent` and compact_run leave the rows in these places, with
 * slot 0; carry_run brings the scores along. The order of the rows means nothing to attention
 * without a window: keys carry their positions.
 *
 * source: FMInference/H2O@ac75c2a utils_real_drop, schwartz-lab-NLP/TOVA@9c7d09b. */
#ifndef KVBUDGET_KERNELS_REPLACE_H
#define KVBUDGET_KERNELS_REPLACE_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { REPLACE_THREADS = 128, CARRY_THREADS = 256 };

struct replace_args {
    struct cache_view c; /* not KIVI */
    float *scores;       /* [lists][width]; the new row's at heavy + recent. NULL: none */
    uint32_t width;      /* at least heavy + recent + 1 */
    uint32_t heavy, recent;
    const uint32_t *slot; /* [sequences]; UINT32_MAX: not full yet, left alone */
    uint32_t *lengths;    /* c.lengths */
};

struct carry_args { /* scores[list][j] = scores[list][index[list][j]], j < keep[list] */
    float *scores;  /* [lists][width] */
    const uint32_t *index, *keep; /* as compact_run takes them */
    uint32_t lists, width;
};

enum device_status replace_run(struct device *d, const struct replace_args *a);
enum device_status carry_run(struct device *d, const struct carry_args *a);

/* The place that replace_run frees, given a head's scores in host memory: heavy + slot, or the
 * place of a heavy row. */
uint32_t replace_loser(const struct replace_args *a, const float *scores, uint32_t slot);

/* What they issue; scores, index and keep are TAG_WORK, slots and lengths TAG_TABLES. slot, the
 * losers of all lists, and keep: copies in host memory. Add to *t. */
void replace_traffic(const struct replace_args *a, const uint32_t *slot, const uint32_t *loser,
                     struct traffic *t);
void carry_traffic(const struct carry_args *a, const uint32_t *keep, struct traffic *t);

#endif
