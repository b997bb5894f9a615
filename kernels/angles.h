/* KeyDiff: how far each stored key points where the keys of its head point on the whole,
 *
 *     scores[list][i] = cosine of k_i and the mean over j of k_j / |k_j|
 *
 * Those that stand out, with the smallest cosines, stay. Lists are numbered as in evict.h. Two
 * kernels: `anchor` leaves each block's part of the mean in work memory, `angles` adds the
 * parts up and compares. Keys of length 0 have a cosine of 0.
 *
 * source: arXiv:2504.15364; NVIDIA/kvpress@8bb29b9 keydiff_press.py. */
#ifndef KVBUDGET_KERNELS_ANGLES_H
#define KVBUDGET_KERNELS_ANGLES_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { ANGLES_THREADS = 256, ANGLES_WARPS = ANGLES_THREADS / 32 };

struct angles_args {
    struct cache_view c;
    float *scores; /* [lists][width] */
    float *work;   /* angles_work_bytes */
    uint32_t width;
    uint32_t blocks; /* that share the rows of a list */
};

uint64_t angles_work_bytes(const struct angles_args *a);
enum device_status angles_run(struct device *d, const struct angles_args *a);

/* What angles_run issues, both kernels; scores and work are TAG_WORK, lengths and tables
 * TAG_TABLES; lengths: a copy in host memory. Useful are 6 k.dim FLOP a row: its length, its
 * share of the mean, and the product with it. Adds to *t. */
void angles_traffic(const struct angles_args *a, const uint32_t *lengths, struct traffic *t);

#endif
