/* New K and V rows into the cache, quantized on the way. append writes the row of a token into
 * its page (KIVI: into `full`, if it belongs there); pack moves KIVI tokens that left the full
 * part into pages, and packs a prompt's. */
#ifndef KVBUDGET_KERNELS_APPEND_H
#define KVBUDGET_KERNELS_APPEND_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { APPEND_THREADS = 128 };

struct append_args {
    struct cache_view c; /* lengths: after the append */
    const void *k, *v;   /* [rows][heads][dim] in bf16; fp16 where the cache is fp16 */
    uint32_t rows;
    const uint32_t *sequence; /* [rows] */
    const uint32_t *index;    /* [rows], or [rows][heads] when ragged: place in the sequence */
};

/* Values are rounded to nearest even; fp8 is clamped to +-448, int8 to +-127. With `scales` the
 * scale of an 8-bit row is its largest size / 448 or / 127 in fp32; INT4 and KIVI take
 * (largest - smallest) / (2^bits - 1) and the smallest, both rounded to bf16.
 * Of KIVI tokens the newest `residual` of each head go into `full`; older ones, and K when a
 * group of `residual` is complete, are left to pack. A decode step of KIVI: pack V of token T -
 * residual (if T >= residual), append token T with lengths of T + 1, pack K of the last
 * `residual` tokens if T + 1 is a multiple of it. */
enum device_status append_run(struct device *d, const struct append_args *a);

/* index, lengths and sequence: copies in host memory, which the formula reads. Adds to *t. */
void append_traffic(const struct append_args *a, const uint32_t *sequence,
                    const uint32_t *index, const uint32_t *lengths, struct traffic *t);

struct pack_args { /* quantizes tokens [first, first + count) of every sequence, one side */
    struct cache_view c;
    bool value;
    uint32_t first, count; /* of K: multiples of k.group */
    const void *rows; /* NULL: from `full`; else bf16 [sequences][source_tokens][heads][dim] */
    uint32_t source_tokens;
};

/* KIVI only, not ragged. */
enum device_status pack_run(struct device *d, const struct pack_args *a);
void pack_traffic(const struct pack_args *a, struct traffic *t);

#endif
