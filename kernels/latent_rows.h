/* Rows of latents (MLA) into the cache and out of it. Append stores the latent of a token and
 * its rope part, quantized on the way. Unpack reads the rows of a sequence for a prompt, whose
 * attention runs on keys and values of every head: the latents go to where products of gemm.h
 * expand them, and the rope part, which all heads share, to the end of each head's key. */
#ifndef KVBUDGET_KERNELS_LATENT_ROWS_H
#define KVBUDGET_KERNELS_LATENT_ROWS_H

#include "kernels/cache.h"
#include "kernels/device.h"

enum { LATENT_ROWS_THREADS = 128 };

struct latent_append_args {
    struct cache_view c;  /* cache_check_latent's */
    const void *latent;   /* [rows][rank] in bf16; fp16 where the cache is fp16 */
    const void *position; /* [rows][k.rope] of the same type: the rope part, turned already */
    uint32_t rows;
    const uint32_t *sequence, *index; /* [rows]: place in the cache */
};

/* Rounding as append_run's; fp8_ds_mla has a scale for each 128 elements of the latent, their
 * largest size / 448 in fp32. */
enum device_status latent_append_run(struct device *d, const struct latent_append_args *a);
void latent_append_traffic(const struct latent_append_args *a, struct traffic *t);

struct latent_unpack_args {
    struct cache_view c; /* of one sequence */
    uint32_t rows;       /* the first so many, all stored */
    void *latent;        /* [rows][rank] in the type of append's */
    void *keys; /* [rows][heads][stride], of which elements [stride - k.rope, stride) of
                   every head are written */
    uint32_t heads, stride; /* stride: a multiple of 8 */
};

enum device_status latent_unpack_run(struct device *d, const struct latent_unpack_args *a);
void latent_unpack_traffic(const struct latent_unpack_args *a, struct traffic *t);

#endif
